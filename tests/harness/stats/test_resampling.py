"""Sign flips against scipy, and the pigeonhole bootstrap's variance against what it should be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from harness.stats.bootstrap import pigeonhole
from harness.stats.crossed_variance import crossed
from harness.stats.permutation import floor, sign_flip
from harness.stats.refusal import Refused
from harness.stats.scores import Pair

FIVE = [Pair(k, k) for k in range(5)]


def flips(values: np.ndarray, pairs: Sequence[Pair] | None = None, seed: int = 0) -> np.ndarray:
    """The p-values, of replicates that share nothing unless said."""
    found = sign_flip(values, pairs or [Pair(k, k) for k in range(values.shape[-1])], np.random.default_rng(seed))
    assert not isinstance(found, Refused)
    return found


def plain(count: int) -> list[Pair]:
    return [Pair(k, k) for k in range(count)]


@pytest.mark.parametrize("count", [2, 3, 5, 9])
def test_sign_flips_are_those_of_scipy(count: int) -> None:
    values = np.random.default_rng(count).normal(0.4, 1.0, size=count)
    oracle = stats.permutation_test(
        (values,), lambda x, axis: np.abs(x.mean(axis)), permutation_type="samples", alternative="greater"
    )
    assert float(flips(values)) == pytest.approx(oracle.pvalue)


@pytest.mark.parametrize("count", [3, 5, 14])
def test_the_floor_is_reached_by_replicates_that_all_agree(count: int) -> None:
    assert float(flips(np.arange(1.0, count + 1))) == floor(plain(count))


def test_five_replicates_can_never_reach_five_percent() -> None:
    assert floor(plain(5)) == 0.0625
    assert floor(plain(6)) < 0.05


def test_beyond_fourteen_patterns_are_drawn_and_never_give_zero() -> None:
    values = np.random.default_rng(0).normal(0.3, 1.0, size=20)
    p = float(flips(values, seed=1))
    assert p == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue, abs=0.03)
    assert float(flips(np.full(20, 5.0), seed=1)) == pytest.approx(floor(plain(20)))


def test_values_that_are_all_zero_show_nothing() -> None:
    assert float(flips(np.zeros(5))) == 1.0


def test_ties_through_rounding_count() -> None:
    """0.1 + 0.2 - 0.3 is not 0 in binary: patterns of equal sums must be seen as equal."""
    assert float(flips(np.array([0.1, 0.2, -0.3]))) == 1.0


def test_replicates_that_share_a_fold_have_one_sign() -> None:
    """Ten on five folds are five, to the test and to its floor; of equal folds the p is that of the folds' means."""
    turns, rng = [Pair(k, k % 5) for k in range(10)], np.random.default_rng(0)
    assert floor(turns) == floor(plain(5))
    assert float(flips(np.ones(10), turns)) == floor(turns)
    values = rng.normal(size=(50, 10))
    np.testing.assert_allclose(flips(values, turns), flips((values[:, :5] + values[:, 5:]) / 2))
    folds = rng.normal(size=(4000, 7))[:, [k % 7 for k in range(14)]] + rng.normal(0, 0.3, (4000, 14))
    seven = [Pair(k, k % 7) for k in range(14)]
    assert (flips(folds, seven) <= 0.05).mean() < 0.06
    assert (flips(folds) <= 0.05).mean() > 0.15, "as if they were fourteen"


def test_a_grid_of_seeds_and_folds_cannot_be_flipped() -> None:
    grid = [Pair(seed, fold) for seed in range(5) for fold in range(5)]
    refused = sign_flip(np.ones(25), grid, np.random.default_rng(0))
    assert isinstance(refused, Refused)
    assert "share seeds and folds" in str(refused)


def test_studies_are_resampled_each_as_if_alone() -> None:
    values = [np.random.default_rng(0).normal(size=(4, 5, n)) for n in (6, 9)]
    low, high = pigeonhole(values, FIVE, np.random.default_rng(2))
    one = pigeonhole([value[2] for value in values], FIVE, np.random.default_rng(2))
    assert (low[2], high[2]) == pytest.approx(one)


def test_of_replicates_alone_its_width_is_that_of_their_standard_error() -> None:
    """n - 1 draws: the variance of the resampled means is s2 / n, not (n - 1) / n of it."""
    means = np.random.default_rng(0).normal(size=40)
    values = [np.repeat(means[:, None], 6, axis=1)]
    low, high = pigeonhole(values, [Pair(k, k) for k in range(40)], np.random.default_rng(1), resamples=20_000)
    assert high - low == pytest.approx(2 * 1.96 * stats.sem(means), rel=0.03)


def test_of_images_alone_likewise() -> None:
    images = np.random.default_rng(0).normal(size=50)
    values = [np.repeat(images[None], 5, axis=0)]
    low, high = pigeonhole(values, FIVE, np.random.default_rng(1), resamples=20_000)
    assert high - low == pytest.approx(2 * 1.96 * stats.sem(images), rel=0.03)


def test_a_shared_fold_is_drawn_as_one() -> None:
    """Ten replicates that differ by fold alone are worth five."""
    means = np.tile(np.random.default_rng(0).normal(size=5), 2)
    values = [np.repeat(means[:, None], 4, axis=1)]
    rng = np.random.default_rng
    shared = pigeonhole(values, [Pair(k, k % 5) for k in range(10)], rng(1))
    single = pigeonhole([values[0][:5]], FIVE, rng(1))
    apart = pigeonhole(values, [Pair(k, k) for k in range(10)], rng(1))
    assert shared == pytest.approx(single)
    assert apart[1] - apart[0] < 0.8 * (shared[1] - shared[0])


def test_it_is_wider_than_the_truth_where_every_cell_is_drawn_anew() -> None:
    """What Owen (2007) proves: the residual is counted more than once."""
    values = [np.random.default_rng(0).normal(size=(20, 30))]
    pairs = [Pair(k, k) for k in range(20)]
    low, high = pigeonhole(values, pairs, np.random.default_rng(1))
    assert high - low > 1.3 * 2 * 1.96 / np.sqrt(600)
    assert float(crossed(values, pairs).total()) < 2.0 / 600


def test_the_level_sets_the_width() -> None:
    values = [np.random.default_rng(0).normal(size=(5, 30))]
    narrow = pigeonhole(values, FIVE, np.random.default_rng(1), level=0.5)
    wide = pigeonhole(values, FIVE, np.random.default_rng(1), level=0.95)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
