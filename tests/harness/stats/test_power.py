"""Power against the noncentral t, against simulated tests, and its own inverse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from harness.simulation.scores import Truth, scores, simulate
from harness.stats.crossed_variance import clusters, crossed, weights
from harness.stats.effects import effect
from harness.stats.power import (
    MOST,
    ContrastNoise,
    detectable,
    equivalence_power,
    minimum_detectable,
    more_needed,
    power,
)
from harness.stats.scores import Contrast, Pair

ALONE = ContrastNoise(replicate=0.006**2, images=0.0, df_images=57.0)
BOTH = ContrastNoise(replicate=0.006**2, images=0.001**2, df_images=57.0)


def plain(count: int) -> tuple[Pair, ...]:
    return tuple(Pair(k, k) for k in range(count))


def needed(effect: float, noise: ContrastNoise, smallest: float | None = None) -> int | None:
    """Of a study that has none yet."""
    return more_needed(effect, noise, plain, lambda _: 0.05, smallest)


@pytest.mark.parametrize("replicates", [3, 5, 12])
@pytest.mark.parametrize("level", [0.05, 0.05 / 3])
def test_replicates_alone_are_a_t_test(replicates: int, level: float) -> None:
    effect, df = 0.009, replicates - 1
    shift, reach = effect / 0.006 * np.sqrt(replicates), stats.t.isf(level / 2, df)
    oracle = stats.nct.sf(reach, df, shift) + stats.nct.cdf(-reach, df, shift)
    assert power(effect, ALONE, plain(replicates), level) == pytest.approx(oracle, abs=0.003)


def test_without_effect_power_is_the_level() -> None:
    assert power(0.0, ALONE, plain(5), 0.05) == pytest.approx(0.05, abs=0.002)
    assert power(0.0, BOTH, plain(5), 0.05) <= 0.052


def test_power_does_not_depend_on_the_sign_and_grows() -> None:
    assert power(-0.01, BOTH, plain(5)) == pytest.approx(power(0.01, BOTH, plain(5)))
    growing = [power(0.004, BOTH, plain(replicates)) for replicates in (3, 5, 8, 20)]
    assert growing == sorted(growing)


def test_equivalence_power_against_simulated_tests() -> None:
    rng = np.random.default_rng(0)
    draws = rng.normal(0.001, 0.006, size=(20_000, 12))
    means, se = draws.mean(axis=1), stats.sem(draws, axis=1)
    reach = stats.t.isf(0.05, 11)
    share = ((means + reach * se < 0.006) & (means - reach * se > -0.006)).mean()
    assert equivalence_power(0.001, ALONE, plain(12), 0.006, 0.05) == pytest.approx(share, abs=0.012)


def test_the_minimum_detectable_effect_is_detected_as_often_as_it_says() -> None:
    for goal in (0.5, 0.8, 0.95):
        assert power(minimum_detectable(BOTH, plain(6), 0.05, goal), BOTH, plain(6), 0.05) == pytest.approx(
            goal, abs=1e-6
        )


@pytest.mark.parametrize("effect", [0.003, 0.006, 0.02])
def test_needed_is_the_first_number_that_suffices(effect: float) -> None:
    found = needed(effect, BOTH)
    assert found is not None
    assert power(effect, BOTH, plain(found)) >= 0.8
    assert found == 3 or power(effect, BOTH, plain(found - 1)) < 0.8


def test_no_number_is_named_where_the_images_leave_too_much() -> None:
    assert needed(0.001, BOTH) is None
    assert power(0.001, BOTH, plain(MOST)) < 0.8


def test_a_null_effect_is_decided_by_equivalence() -> None:
    assert needed(0.0, BOTH) is None
    found = needed(0.0, BOTH, smallest=0.005)
    assert found is not None
    assert equivalence_power(0.0, BOTH, plain(found), 0.005) >= 0.8


def test_nothing_that_varies_needs_no_power() -> None:
    still = ContrastNoise(0.0, 0.0, 57.0)
    assert (power(0.01, still, plain(3)), power(0.0, still, plain(3)), minimum_detectable(still, plain(3))) == (
        1.0,
        0.0,
        0.0,
    )
    assert tuple(equivalence_power(effect, still, plain(3), 0.005) for effect in (0.0, 0.005)) == (1.0, 0.0)


GRID = tuple(Pair(seed, fold) for seed in range(5) for fold in range(3))
TURNS = tuple(Pair(k, k % 5) for k in range(10))


@pytest.mark.parametrize(
    ("pairs", "images"),
    [(plain(5), 20), (plain(12), 4), (TURNS, 20), (TURNS[:7], 20), (GRID, 20), (GRID[1:], 20)],
)
def test_true_variances_are_what_studies_estimate(pairs: tuple[Pair, ...], images: int) -> None:
    """The mean of the variances that 4,000 studies see: many images, a handful, shared folds, grids."""
    sharing = {"fold": 0.006, "seed": 0.004} if len({pair.fold for pair in pairs}) < len(pairs) else {}
    truth = Truth(
        effects={"a": 0.0, "b": 0.0}, replicates=pairs, images={"cedar": images, "rowan": images}, image_arm=0.03,
        **sharing,  # type: ignore[arg-type]
    )  # fmt: skip
    contrast, weight = Contrast("b over a", {"b": 1.0, "a": -1.0}), weights(pairs)
    count = 1.0 / float((weight**2).sum())
    values = [drawn[:, 1] - drawn[:, 0] for drawn in scores(truth, 4000, np.random.default_rng(0))]
    parts = crossed(values, pairs)
    expected, axes = truth.variances(contrast), clusters(pairs)
    own = {"seeds": expected.seed, "folds": expected.fold}
    alone = expected.replicate + sum(own[name] for name in own if name not in axes)
    assert parts.residual.mean() * count == pytest.approx(expected.residual, rel=0.03)
    assert parts.images().mean() == pytest.approx(expected.images, rel=0.05)
    assert parts.components["replicates"].mean() * count == pytest.approx(alone, rel=0.1)
    crowds = {name: float((np.bincount(axes[name], weight) ** 2).sum()) for name in own if name in axes}
    for name, crowd in crowds.items():  # what is cut off below 0 makes them a little large
        assert own[name] * 0.95 < parts.components[name].mean() / crowd < own[name] * 1.3
    variance = alone / count + sum(own[name] * crowd for name, crowd in crowds.items())
    assert parts.estimate.var() == pytest.approx(variance + expected.images, rel=0.08)


@pytest.mark.parametrize("fold", [0.0, 0.006])
@pytest.mark.parametrize(
    "pairs", [TURNS[:7], TURNS, (*TURNS, *TURNS), GRID, GRID[1:], tuple(Pair(k, 0) for k in range(8))]
)
def test_power_on_shared_folds_is_what_simulated_studies_find(pairs: tuple[Pair, ...], fold: float) -> None:
    """Seed k on fold k mod 5, grids, one with a hole, one fold for all: 6,000 studies judged as a report does."""
    pairs = tuple(Pair(k, pair.fold) for k, pair in enumerate(pairs)) if len(pairs) == 20 else pairs
    fold = fold * (len({pair.fold for pair in pairs}) > 1)
    truth = Truth(effects={"a": 0.0, "b": 0.0}, replicates=pairs, fold=fold, seed=0.003)
    noise = truth.variances(Contrast("b over a", {"b": 1.0, "a": -1.0}))
    values = [drawn[:, 1] - drawn[:, 0] for drawn in scores(truth, 6000, np.random.default_rng(1))]
    parts = crossed(values, pairs)
    effect = minimum_detectable(noise, pairs, 0.05 / 3)
    found = replace(parts, estimate=parts.estimate + effect).p() <= 0.05 / 3
    assert found.mean() == pytest.approx(0.8, abs=0.035)
    smallest = 2.0 * effect
    same = (parts.equivalence_p(smallest) <= 0.05 / 3).mean()
    assert same == pytest.approx(equivalence_power(0.0, noise, pairs, smallest, 0.05 / 3), abs=0.035)


def test_folds_taken_in_turn_need_more_replicates_and_may_never_suffice() -> None:
    """With df that end at four and a fold's own variance that five of them average, an effect may be out of reach."""

    def grown(more: int) -> tuple[Pair, ...]:
        return tuple(Pair(k, k % 5) for k in range(5 + more))

    def sought(fold: float) -> int | None:
        split = replace(BOTH, replicate=BOTH.replicate * (1.0 - fold), fold=BOTH.replicate * fold)
        return more_needed(0.0065, split, grown, lambda _: 0.05 / 3)

    found = [sought(fold) for fold in (0.0, 0.05, 0.4)]
    unshared = more_needed(0.0065, BOTH, lambda more: plain(5 + more), lambda _: 0.05 / 3)
    assert unshared is not None
    assert found[0] is not None
    assert found[1] is not None
    assert unshared < found[0] < found[1]
    assert found[2] is None


def test_no_verdict_is_expected_where_none_is_made() -> None:
    """A look every ten replicates: the number is one of them."""
    found = more_needed(0.006, BOTH, plain, lambda more: 0.05 * (more % 10 == 0))
    assert found is not None
    assert found % 10 == 0


def test_variances_of_one_study_are_read_off_its_effect() -> None:
    truth = Truth(effects={"a": 0.0, "b": 0.0}, replicates=tuple(Pair(k, k) for k in range(6)))
    cells = simulate(truth, np.random.default_rng(0))
    found = effect(cells, Contrast("b over a", {"b": 1.0, "a": -1.0}), None, np.random.default_rng(0))
    seen = ContrastNoise.of(found.parts(), found.pairs)
    assert seen.replicate / 6 + seen.images == pytest.approx(found.se**2)
    assert seen.replicate / 6 == pytest.approx(found.share_of_replicates * found.se**2)
    assert 0.0 < seen.residual < seen.replicate


@pytest.mark.parametrize("count", [3, 5, 10])
def test_an_effect_named_from_estimated_variances_is_found_in_four_of_five_studies(count: int) -> None:
    """Replicates alone: a study names an effect, another one of the same size looks for it; 200,000 such pairs."""
    rng, free, level = np.random.default_rng(0), count - 1.0, 0.05 / 3
    naming, looking = (np.sqrt(rng.chisquare(free, 200_000) / free) for _ in range(2))
    per_se = detectable(ContrastNoise(float(count), 0.0, 57.0), plain(count), level)
    found = np.abs(rng.standard_normal(200_000) + per_se * naming) > -stats.t.ppf(level / 2.0, free) * looking
    assert found.mean() == pytest.approx(0.8, abs=0.02)
    known = minimum_detectable(ContrastNoise(float(count), 0.0, 57.0), plain(count), level)
    blind = np.abs(rng.standard_normal(200_000) + known * naming) > -stats.t.ppf(level / 2.0, free) * looking
    assert blind.mean() < found.mean()


def test_where_nothing_varies_everything_is_found() -> None:
    assert detectable(ContrastNoise(0.0, 0.0, 57.0), plain(3)) == 0.0
