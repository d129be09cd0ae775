from __future__ import annotations

import math
from itertools import permutations, product

import numpy as np
import pytest

from harness.simulation.scores import Truth, simulate
from harness.stats import missing_data as module
from harness.stats.missing_data import collapsed, missing, upper_rate
from harness.stats.scores import Cells, Pair, Target


def cells(failed: np.ndarray, undefined: int = 0) -> Cells:
    """Trials failed where ``failed (arms, replicates)``; the first arm has ``undefined`` undefined scores."""
    scores = np.full((*failed.shape, 4), 0.8)
    scores[0, 0, :undefined] = math.nan
    scores[failed] = math.nan
    arms = tuple(f"arm{a}" for a in range(len(failed)))
    replicates = tuple(Pair(seed, 0) for seed in range(failed.shape[1]))
    return Cells(arms, replicates, (Target("drive", scores, np.array(list("abcd"))),), ~failed)


def brute_force(failed: np.ndarray) -> float:
    """The share of all ways to relabel arms within each replicate that are at least as uneven."""

    def spread(flags: np.ndarray) -> float:
        return float(((flags.sum(axis=1) - flags.sum() / len(flags)) ** 2).sum())

    ways = [[np.array(way) for way in permutations(column)] for column in failed.T]
    found = [spread(np.stack(columns, axis=1)) for columns in product(*ways)]
    return float(np.mean(np.array(found) >= spread(failed) - 1e-9))


@pytest.mark.parametrize("seed", range(6))
def test_the_exact_p_value_is_that_of_all_relabellings_within_replicates(seed: int) -> None:
    failed = np.random.default_rng(seed).random((3, 5)) < 0.35
    found = missing(cells(failed), np.random.default_rng(0))
    if math.isnan(found.p):  # every relabelling is alike
        assert brute_force(failed) == 1.0
    else:
        assert found.exact
        assert found.p == pytest.approx(brute_force(failed), abs=1e-12)


def test_an_arm_that_always_fails_alone_has_the_smallest_p_that_there_is() -> None:
    failed = np.zeros((4, 5), dtype=bool)
    failed[2] = True
    found = missing(cells(failed), np.random.default_rng(0))
    assert found.p == pytest.approx(4 / 4**5)
    assert found.floor == pytest.approx(found.p)
    assert found.arrangements == 4**5
    assert [arm.failed for arm in found.arms] == [0, 0, 5, 0]


def test_a_replicate_in_which_everything_fails_says_nothing_about_arms() -> None:
    failed = np.zeros((4, 5), dtype=bool)
    failed[:, 1] = True
    assert math.isnan(missing(cells(failed), np.random.default_rng(0)).p)
    failed[2, 3] = True
    found = missing(cells(failed), np.random.default_rng(0))
    assert found.p == 1.0
    assert found.floor == 1.0, "one failure can never tell"


def test_nothing_failed_leaves_nothing_to_test() -> None:
    found = missing(cells(np.zeros((3, 4), dtype=bool), undefined=2), np.random.default_rng(0))
    assert math.isnan(found.p)
    assert [arm.undefined for arm in found.arms] == [2, 0, 0]
    assert all(arm.failed == 0 and arm.declared == 4 for arm in found.arms)


def test_drawn_arrangements_agree_with_enumerated_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = np.random.default_rng(3).random((4, 6)) < [[0.1], [0.2], [0.2], [0.6]]
    exact = missing(cells(failed), np.random.default_rng(0))
    monkeypatch.setattr(module, "ENUMERATED", 0)
    drawn = missing(cells(failed), np.random.default_rng(0))
    assert exact.exact
    assert not drawn.exact
    assert drawn.p == pytest.approx(exact.p, abs=4 * math.sqrt(exact.p / module.DRAWN))
    assert drawn == missing(cells(failed), np.random.default_rng(0)), "equal seeds, equal answers"


def test_the_rate_that_clean_runs_do_not_exclude_is_clopper_and_pearson_s() -> None:
    from scipy.stats import binomtest

    for runs in (3, 5, 20):
        assert upper_rate(0, runs) == pytest.approx(1.0 - 0.05 ** (1.0 / runs))
        oracle = binomtest(1, runs, alternative="less").proportion_ci(0.95, "exact").high
        assert upper_rate(1, runs) == pytest.approx(oracle)
    assert upper_rate(3, 3) == upper_rate(0, 0) == 1.0


def test_a_run_that_collapsed_is_named_and_a_hard_replicate_is_not() -> None:
    truth = Truth(effects=dict.fromkeys("abcd", 0.0), replicates=tuple(Pair(k, k) for k in range(5)))
    named = 0
    for seed in range(100):
        cells = simulate(truth, np.random.default_rng(seed))
        for target in cells.targets:
            target.scores[:, 3] -= 0.3
        named += len(collapsed(cells, 0.005))
        for target in cells.targets:
            target.scores[2, 1] -= 0.4
        found = [(one.arm, one.replicate) for one in collapsed(cells, 0.005)]
        assert ("c", Pair(1, 1)) in found
    assert named <= 10, "runs of a sound study"
