"""Power against the noncentral t, against simulated tests, and its own inverse."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.inference.cells import Contrast, Pair
from harness.inference.crossed import crossed
from harness.inference.effects import effect
from harness.inference.power import (
    MOST,
    ContrastNoise,
    equivalence_power,
    minimum_detectable,
    power,
    replicates_needed,
)
from harness.simulated import Truth, scores, simulate

ALONE = ContrastNoise(replicate=0.006**2, images=0.0, df_images=57.0)
BOTH = ContrastNoise(replicate=0.006**2, images=0.001**2, df_images=57.0)


@pytest.mark.parametrize("replicates", [3, 5, 12])
@pytest.mark.parametrize("level", [0.05, 0.05 / 3])
def test_replicates_alone_are_a_t_test(replicates: int, level: float) -> None:
    effect, df = 0.009, replicates - 1
    shift, reach = effect / 0.006 * np.sqrt(replicates), stats.t.isf(level / 2, df)
    oracle = stats.nct.sf(reach, df, shift) + stats.nct.cdf(-reach, df, shift)
    assert power(effect, ALONE, replicates, level) == pytest.approx(oracle, abs=0.003)


def test_without_effect_power_is_the_level() -> None:
    assert power(0.0, ALONE, 5, 0.05) == pytest.approx(0.05, abs=0.002)
    assert power(0.0, BOTH, 5, 0.05) <= 0.052


def test_power_does_not_depend_on_the_sign_and_grows() -> None:
    assert power(-0.01, BOTH, 5) == pytest.approx(power(0.01, BOTH, 5))
    growing = [power(0.004, BOTH, replicates) for replicates in (3, 5, 8, 20)]
    assert growing == sorted(growing)


def test_equivalence_power_against_simulated_tests() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(0.001, 0.006, size=(20_000, 12))
    means, se = draws.mean(axis=1), stats.sem(draws, axis=1)
    reach = stats.t.isf(0.05, 11)
    share = ((means + reach * se < 0.006) & (means - reach * se > -0.006)).mean()
    assert equivalence_power(0.001, ALONE, 12, 0.006, 0.05) == pytest.approx(share, abs=0.012)


def test_the_minimum_detectable_effect_is_detected_as_often_as_it_says() -> None:
    for goal in (0.5, 0.8, 0.95):
        assert power(minimum_detectable(BOTH, 6, 0.05, goal), BOTH, 6, 0.05) == pytest.approx(goal, abs=1e-6)


@pytest.mark.parametrize("effect", [0.003, 0.006, 0.02])
def test_needed_is_the_first_number_that_suffices(effect: float) -> None:
    needed = replicates_needed(effect, BOTH)
    assert needed is not None
    assert power(effect, BOTH, needed) >= 0.8
    assert needed == 3 or power(effect, BOTH, needed - 1) < 0.8


def test_no_number_is_named_where_the_images_leave_too_much() -> None:
    assert replicates_needed(0.001, BOTH) is None
    assert power(0.001, BOTH, MOST) < 0.8


def test_a_null_effect_is_decided_by_equivalence() -> None:
    assert replicates_needed(0.0, BOTH) is None
    needed = replicates_needed(0.0, BOTH, smallest=0.005)
    assert needed is not None
    assert equivalence_power(0.0, BOTH, needed, 0.005) >= 0.8


def test_nothing_that_varies_needs_no_power() -> None:
    still = ContrastNoise(0.0, 0.0, 57.0)
    assert (power(0.01, still, 3), power(0.0, still, 3), minimum_detectable(still, 3)) == (1.0, 0.0, 0.0)
    assert (equivalence_power(0.0, still, 3, 0.005), equivalence_power(0.005, still, 3, 0.005)) == (1.0, 0.0)


@pytest.mark.parametrize(("count", "images"), [(5, 20), (12, 4)])
def test_true_variances_are_what_studies_estimate(count: int, images: int) -> None:
    """The mean of the variances that 4,000 studies see, with many images and with a handful."""
    truth = Truth(
        effects={"a": 0.0, "b": 0.0}, replicates=tuple(Pair(k, k) for k in range(count)),
        images={"cedar": images, "rowan": images}, image_arm=0.03,
    )  # fmt: skip
    contrast = Contrast("b over a", {"b": 1.0, "a": -1.0})
    values = [drawn[:, 1] - drawn[:, 0] for drawn in scores(truth, 4000, np.random.default_rng(0))]
    parts = crossed(values, truth.replicates)
    expected = truth.variances(contrast)
    assert parts.residual.mean() * count == pytest.approx(expected.residual, rel=0.03)
    assert parts.fixed().mean() == pytest.approx(expected.images, rel=0.05)
    assert ((parts.total() - parts.fixed()).mean() * count) == pytest.approx(expected.replicate, rel=0.05)
    assert parts.estimate.var() == pytest.approx(expected.replicate / count + expected.images, rel=0.08)


def test_variances_of_one_study_are_read_off_its_effect() -> None:
    truth = Truth(effects={"a": 0.0, "b": 0.0}, replicates=tuple(Pair(k, k) for k in range(6)))
    cells = simulate(truth, np.random.default_rng(0))
    found = effect(cells, Contrast("b over a", {"b": 1.0, "a": -1.0}), None, np.random.default_rng(0))
    seen = ContrastNoise.of(found.parts(), found.replicates)
    assert seen.replicate / 6 + seen.images == pytest.approx(found.se**2)
    assert seen.replicate / 6 == pytest.approx(found.share_of_replicates * found.se**2)
    assert 0.0 < seen.residual < seen.replicate
