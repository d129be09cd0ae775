"""The interval of a mean: it covers, it respects patients, and it says what it cannot know."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sam2lora.intervals import MeanInterval, mean_interval


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_it_covers_the_true_mean() -> None:
    source, hits, rounds = rng(1), 0, 400
    for _ in range(rounds):
        found = mean_interval(source.beta(8, 2, size=20), np.arange(20), source, resamples=600)
        hits += found.low <= 0.8 <= found.high
    # Binomial(400, 0.95) lies in this range with probability above 0.999.
    assert 0.91 <= hits / rounds <= 0.985


def test_images_of_one_patient_are_not_independent() -> None:
    patients = rng(2).normal(0.7, 0.05, size=10).repeat(6)
    clustered = mean_interval(patients, np.arange(10).repeat(6), rng())
    pretended = mean_interval(patients, np.arange(60), rng())
    assert (clustered.n, clustered.clusters) == (60, 10)
    assert clustered.high - clustered.low > 1.8 * (pretended.high - pretended.low)


def test_the_mean_is_over_images_however_unequal_the_patients() -> None:
    found = mean_interval([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"], rng())
    assert found.mean == 0.75
    assert found.low <= 0.75 <= found.high


def test_undefined_scores_are_left_out_and_counted() -> None:
    values = [0.5, math.nan, 0.7, math.nan]
    found = mean_interval(values, ["a", "a", "b", "c"], rng())
    assert (found.mean, found.n, found.clusters, found.undefined) == (pytest.approx(0.6), 2, 2, 2)


@pytest.mark.parametrize(
    ("values", "mean", "n", "clusters"), [([0.4, 0.6], 0.5, 2, 1), ([math.nan], math.nan, 0, 0), ([], math.nan, 0, 0)]
)
def test_without_two_patients_there_is_no_interval(values: list[float], mean: float, n: int, clusters: int) -> None:
    found = mean_interval(values, ["only"] * len(values), rng())
    assert (found.n, found.clusters) == (n, clusters)
    assert found.mean == pytest.approx(mean, nan_ok=True)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_equal_scores_leave_no_width() -> None:
    assert mean_interval([0.5] * 8, range(8), rng()) == MeanInterval(0.5, 0.5, 0.5, 8, 8, 0)


def test_equal_seeds_give_equal_intervals() -> None:
    values = rng(3).random(12)
    assert mean_interval(values, range(12), rng(4)) == mean_interval(values, range(12), rng(4))
