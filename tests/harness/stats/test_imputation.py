"""Replicates that lack a run, against least squares, and what the gaps cost."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.simulation.scores import Truth, simulate
from harness.stats.crossed_variance import clusters, weights
from harness.stats.effects import Effect, effect
from harness.stats.imputation import gaps, impute, usable
from harness.stats.scores import Cells, Contrast, Pair

ARMS = tuple("abcdef")
HALVES = Contrast("first three over last three", dict(zip(ARMS, [1 / 3] * 3 + [-1 / 3] * 3, strict=True)))
PLAIN = tuple(Pair(k, k) for k in range(6))
TURNS = tuple(Pair(k, k % 4) for k in range(6))


def least_squares(scores: np.ndarray, present: np.ndarray, contrast: np.ndarray) -> float:
    arm, replicate = np.nonzero(present)
    design = np.concatenate([arm[:, None] == np.arange(len(present)), replicate[:, None] == np.arange(1, 6)], axis=1)
    return float(contrast @ np.linalg.lstsq(design.astype(float), scores[present])[0][: len(present)])


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    """Which of 6 arms x 6 replicates are there; up to five are not."""
    gone = draw(st.lists(st.integers(0, 35), max_size=5, unique=True))
    present = np.ones(36, dtype=bool)
    present[gone] = False
    return present.reshape(6, 6)


@given(tables())
@settings(max_examples=60)
def test_contrasts_of_the_filled_table_are_those_of_least_squares(present: np.ndarray) -> None:
    if not usable(present, 3).all():
        return
    scores = np.random.default_rng(int(present.sum())).normal(size=(6, 6))
    weight = HALVES.vector(ARMS)
    filled = impute(np.where(present, scores, np.nan)[:, :, None], present)[:, :, 0]
    np.testing.assert_array_equal(filled[present], scores[present])
    assert float((weight @ filled).mean()) == pytest.approx(least_squares(scores, present, weight))
    assert (gaps(filled, present, weight) is None) == bool(present.all())


@pytest.mark.parametrize("pairs", [PLAIN, TURNS])
@pytest.mark.parametrize("noise", [(1.0,) * 6, (4.0, 1.0, 1.0, 1.0, 1.0, 1.0)])
def test_the_variance_errs_upwards_and_little(pairs: tuple[Pair, ...], noise: tuple[float, ...]) -> None:
    """Against the variance of 4,000 estimates; the arm that fails may vary four times as much."""
    present = np.ones((6, 6), dtype=bool)
    present[[0, 0, 3], [1, 4, 2]] = False
    rng, weight = np.random.default_rng(0), HALVES.vector(ARMS)
    (codes,) = clusters(pairs).values()
    estimates, variances = [], []
    for _ in range(4000):
        scores = rng.normal(size=(6, 6)) * np.array(noise)[:, None] + rng.normal(size=6)
        filled = impute(scores[:, :, None], present)[:, :, 0]
        found, means = gaps(filled, present, weight), weight @ filled
        of_cluster = np.bincount(codes, means) / np.bincount(codes)
        assert found is not None
        deficit, free = found.of_clusters(codes)
        assert 0.0 < free <= len(of_cluster) - 1
        estimates.append(means @ weights(pairs))
        variances.append(of_cluster.var(ddof=1) / len(of_cluster) + deficit)
    assert 0.97 < np.mean(variances) / np.var(estimates) < 1.35


def study(gone: list[tuple[int, int]], pairs: tuple[Pair, ...] = PLAIN) -> Cells:
    truth = Truth(effects=dict(zip(ARMS, [0.02] * 3 + [0.0] * 3, strict=True)), replicates=pairs)
    cells = simulate(truth, np.random.default_rng(5))
    finished = cells.finished.copy()
    for arm, replicate in gone:
        finished[arm, replicate] = False
    targets = [replace(t, scores=np.where(finished[:, :, None], t.scores, np.nan)) for t in cells.targets]
    return replace(cells, targets=tuple(targets), finished=finished)


def found(cells: Cells, contrast: Contrast = HALVES) -> Effect:
    return effect(cells, contrast, None, np.random.default_rng(0))


def test_two_failed_trials_cost_no_replicate() -> None:
    whole, lost = found(study([])), found(study([(0, 1), (4, 3)]))
    apart = found(study([(arm, replicate) for arm in range(6) for replicate in (1, 3)]))
    assert (lost.replicates, lost.filled, whole.filled) == (6, 2, 0)
    assert lost.estimate == pytest.approx(whole.estimate, abs=0.002)
    widths = [one.high - one.low for one in (whole, lost, apart)]
    assert widths[0] < widths[1] < widths[2]
    assert apart.replicates == 4


def test_a_pair_of_arms_uses_the_replicates_that_both_have() -> None:
    pair = Contrast("a over d", {"a": 1.0, "d": -1.0})
    lost = found(study([(0, 1), (4, 3)]), pair)
    assert (lost.replicates, lost.filled) == (5, 0)


def test_an_arm_that_ran_twice_is_not_filled_in() -> None:
    gone = found(study([(0, replicate) for replicate in range(2, 6)]))
    assert gone.replicates == 2
    assert "only 2 replicates" in gone.why
    half = found(study([(arm, 0) for arm in range(3)]))
    assert (half.replicates, half.filled) == (5, 0)


def test_an_effect_that_every_run_shows_alike_stays_certain() -> None:
    """Arms that differ by one number everywhere: what is filled in differs by it, too."""
    cells = study([(0, 1), (4, 3)])
    shift = 0.01 * np.arange(6.0)[:, None, None]
    same = [replace(t, scores=np.where(np.isnan(t.scores), np.nan, 0.5 + shift)) for t in cells.targets]
    one = found(replace(cells, targets=tuple(same)))
    assert one.estimate == pytest.approx(-0.03)
    assert one.se < 1e-12
    assert math.isfinite(one.p)
