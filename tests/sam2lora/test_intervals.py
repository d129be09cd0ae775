"""The interval of a mean: it covers, it respects patients, and it says what it cannot know."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import linalg, stats

from sam2lora.intervals import ANY, MeanInterval, mean_interval
from sam2lora.metrics import METRICS, reading


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("patients", [2, 3, 10])
@pytest.mark.parametrize("shared", [0.0, 1.0])
def test_it_covers_the_true_mean_of_few_patients_with_uneven_images(patients: int, shared: float) -> None:
    owner = np.repeat(np.arange(patients), 1 + np.arange(patients) % 6)
    source, hits, rounds = rng(1), 0, 600
    for _ in range(rounds):
        values = shared * source.normal(size=patients)[owner] + (1.0 - shared) * source.normal(size=len(owner))
        found = mean_interval(values, owner)
        hits += found.low <= 0.0 <= found.high
    # Binomial(600, 0.95) lies in this range with probability above 0.999; more is allowed to be covered.
    assert 0.915 <= hits / rounds <= 0.985


def test_with_as_many_images_of_every_patient_it_is_students_interval_of_their_means() -> None:
    values = rng(4).random((5, 3))
    found = mean_interval(values.ravel(), np.repeat(np.arange(5), 3))
    means = values.mean(axis=1)
    expected = stats.t.interval(0.95, 4, means.mean(), stats.sem(means))
    assert (found.low, found.high) == pytest.approx(expected)


def test_it_is_the_cluster_robust_interval_of_a_regression_on_a_constant() -> None:
    """An independent way: the variance as a quadratic form of the images, by the matrices of the definition."""
    owner = np.array([0, 0, 0, 1, 2, 2, 2, 2])
    values, maker = rng(5).random(8), np.eye(8) - 1 / 8
    form = np.zeros((8, 8))
    for one in range(3):
        own = owner == one
        adjusted = linalg.fractional_matrix_power(maker[np.ix_(own, own)], -0.5)
        seen = maker[:, own] @ adjusted @ np.ones(own.sum()) / 8
        form += np.outer(seen, seen)
    reach = stats.t.ppf(0.975, np.trace(form) ** 2 / np.trace(form @ form)) * math.sqrt(values @ form @ values)
    found = mean_interval(values, owner)
    assert (found.low, found.high) == pytest.approx((values.mean() - reach, values.mean() + reach))


def test_it_does_not_reach_beyond_what_a_metric_can_be() -> None:
    assert all(reading(metric).range != ANY for metric in METRICS)
    assert reading("a metric of another package").range == ANY
    assert mean_interval([0.5, 1.0], ["a", "b"], reading("dice").range).high == 1.0
    assert mean_interval([0.5, 1.0], ["a", "b"]).high > 3.0
    assert mean_interval([0.5, 1.0], ["a", "b"], reading("mcc").range).low == -1.0


def test_images_of_one_patient_are_not_independent() -> None:
    patients = rng(2).normal(0.7, 0.05, size=10).repeat(6)
    clustered = mean_interval(patients, np.arange(10).repeat(6))
    pretended = mean_interval(patients, np.arange(60))
    assert (clustered.n, clustered.clusters) == (60, 10)
    assert clustered.high - clustered.low > 1.8 * (pretended.high - pretended.low)


def test_the_mean_is_over_images_however_unequal_the_patients() -> None:
    found = mean_interval([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"])
    assert found.mean == 0.75
    assert found.low <= 0.75 <= found.high


def test_undefined_scores_are_left_out_and_counted() -> None:
    values = [0.5, math.nan, 0.7, math.nan]
    found = mean_interval(values, ["a", "a", "b", "c"])
    assert (found.mean, found.n, found.clusters, found.undefined) == (pytest.approx(0.6), 2, 2, 2)


@pytest.mark.parametrize(
    ("values", "mean", "n", "clusters"), [([0.4, 0.6], 0.5, 2, 1), ([math.nan], math.nan, 0, 0), ([], math.nan, 0, 0)]
)
def test_without_two_patients_there_is_no_interval(values: list[float], mean: float, n: int, clusters: int) -> None:
    found = mean_interval(values, ["only"] * len(values))
    assert (found.n, found.clusters) == (n, clusters)
    assert found.mean == pytest.approx(mean, nan_ok=True)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_equal_scores_leave_no_width() -> None:
    assert mean_interval([0.5] * 8, range(8)) == MeanInterval(0.5, 0.5, 0.5, 8, 8, 0)
