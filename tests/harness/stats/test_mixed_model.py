from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from harness.stats import mixed_model as module
from harness.stats.mixed_model import Mixed, mixed
from harness.stats.refusal import Refused
from harness.stats.scores import Cells, Contrast, Pair, Target

GAIN = Contrast("gain", {"arm1": 1.0, "arm0": -1.0})


def simulated(seed: int, replicates: int = 5, targets: int = 3, arms: int = 3, run: float = 0.006) -> Cells:
    rng = np.random.default_rng(seed)
    shared = 0.8 + rng.normal(0, 0.01, (1, replicates)) + rng.normal(0, run, (arms, replicates))
    made = []
    for t in range(targets):
        own = rng.normal(0, 0.03) + rng.normal(0, 0.04, (1, 1, 8)) + rng.normal(0, 0.015, (arms, replicates, 8))
        made.append(Target(f"set{t}", shared[:, :, None] + own, np.array([f"p{i}" for i in range(8)])))
    names = tuple(f"arm{a}" for a in range(arms))
    pairs = tuple(Pair(r, r) for r in range(replicates))
    return Cells(names, pairs, tuple(made), np.ones((arms, replicates), dtype=bool))


def fitted(cells: Cells, *contrasts: Contrast) -> Mixed:
    found = mixed(cells, contrasts or (GAIN,))
    assert isinstance(found, Mixed)
    assert found.converged, found.note
    return found


def test_on_balanced_runs_it_is_the_analysis_of_variance() -> None:
    cells = simulated(0)
    found = fitted(cells)
    means = cells.means()
    by_run = means.mean(axis=2)
    both = by_run - by_run.mean(axis=0) - by_run.mean(axis=1, keepdims=True) + by_run.mean()
    noise = (both**2).sum() / 8
    (gain,) = found.effects
    assert gain.estimate == pytest.approx(by_run[1].mean() - by_run[0].mean(), abs=1e-9)
    assert gain.se == pytest.approx(math.sqrt(2 * noise / 5), rel=1e-3)
    assert found.df == 8
    left = means - means.mean(axis=(0, 1)) - by_run[:, :, None] + means.mean()
    assert found.variances["residual"] == pytest.approx((left**2).sum() / (14 * 2), rel=1e-3)
    assert found.variances["target"] == pytest.approx(means.mean(axis=(0, 1)).var(ddof=1), rel=0.05)


def test_any_contrast_of_arms_can_be_asked() -> None:
    cells = simulated(1)
    half = Contrast("half", {"arm2": 1.0, "arm0": -0.5, "arm1": -0.5})
    found = fitted(cells, GAIN, half)
    by_arm = cells.means().mean(axis=(1, 2))
    assert [one.contrast for one in found.effects] == ["gain", "half"]
    assert found.effects[1].estimate == pytest.approx(by_arm[2] - by_arm[:2].mean(), abs=1e-9)


def test_intervals_hold_the_truth_where_the_model_does() -> None:
    held = 0
    for seed in range(150):
        (gain,) = fitted(simulated(seed)).effects
        held += gain.low <= 0.0 <= gain.high
        assert (gain.p < 0.05) == (not gain.low <= 0.0 <= gain.high)
    assert held / 150 == pytest.approx(0.95, abs=3 * math.sqrt(0.05 * 0.95 / 150))


def test_scores_in_percent_are_the_same_answer() -> None:
    cells = simulated(2)
    percent = Cells(
        cells.arms,
        cells.replicates,
        tuple(Target(t.name, 100 * t.scores, t.patients) for t in cells.targets),
        cells.finished,
    )
    one, hundred = fitted(cells), fitted(percent)
    assert hundred.effects[0].low == pytest.approx(100 * one.effects[0].low, rel=1e-4)
    assert hundred.variances["target"] == pytest.approx(1e4 * one.variances["target"], rel=1e-3)


def test_what_an_arm_gains_on_a_fold_counts_once() -> None:
    """Ten replicates on five folds, equal arms that differ by fold: as ten they would be called different too often."""
    pairs, called, runs = tuple(Pair(k, k % 5) for k in range(10)), 0, 100
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        shift = rng.normal(0, 0.006, (2, 5))[:, [pair.fold for pair in pairs]] + rng.normal(0, 0.002, (2, 10))
        targets = tuple(
            Target(f"set{t}", 0.7 + shift[:, :, None] + rng.normal(0, 0.005, (2, 10, 8)), np.arange(8).astype(str))
            for t in range(2)
        )
        found = mixed(Cells(("arm0", "arm1"), pairs, targets, np.ones((2, 10), dtype=bool)), [GAIN])
        assert isinstance(found, Mixed)
        assert found.df == 4
        assert "arm x fold" in found.variances
        called += found.effects[0].p <= 0.05
    assert called / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_missing_runs_are_used_around() -> None:
    cells = simulated(3)
    cells.finished[1, 2] = False
    for target in cells.targets:
        target.scores[1, 2] = math.nan
    cells.targets[0].scores[2, 0] = math.nan
    found = fitted(cells)
    assert (found.runs, found.declared, found.scores, found.df) == (14, 15, 41, 7)
    paired = np.delete(cells.means()[1].mean(axis=1) - cells.means()[0].mean(axis=1), 2).mean()
    assert found.effects[0].estimate == pytest.approx(paired, abs=0.01)


def test_a_variance_of_zero_is_an_answer() -> None:
    zeros = [found for seed in range(12) if (found := fitted(simulated(seed, run=0.0))).variances["run"] < 1e-7]
    assert zeros, "without an effect of runs, some studies must show none"


def test_one_data_set_is_paired_replicates() -> None:
    cells = simulated(4, targets=1)
    found = fitted(cells)
    assert set(found.variances) == {"residual"}
    by_run = cells.means()[:, :, 0]
    both = by_run - by_run.mean(axis=0) - by_run.mean(axis=1, keepdims=True) + by_run.mean()
    assert found.effects[0].se == pytest.approx(math.sqrt(2 * (both**2).sum() / 8 / 5), rel=1e-3)


@pytest.mark.parametrize("run", [0.0, 0.002, 0.02])
@pytest.mark.parametrize("targets", [1, 2, 4])
def test_standard_errors_are_those_of_the_analysis_of_variance_in_every_study(run: float, targets: int) -> None:
    """In balance there is a closed form, with the two errors pooled where runs seem to vary less than not at all."""
    for seed in range(20):
        cells = simulated(seed, targets=targets, run=run)
        means = cells.means()
        by_run = means.mean(axis=2)
        both = by_run - by_run.mean(axis=0) - by_run.mean(axis=1, keepdims=True) + by_run.mean()
        of_runs, free = targets * (both**2).sum(), 14 * (targets - 1)
        square = of_runs / 8
        if targets > 1:
            left = ((means - means.mean(axis=(0, 1)) - by_run[:, :, None] + means.mean()) ** 2).sum()
            square = square if square > left / free else (of_runs + left) / (8 + free)
        (gain,) = fitted(cells).effects
        assert gain.se == pytest.approx(math.sqrt(2 * square / (5 * targets)), rel=1e-4)


def test_every_kind_of_design_converges() -> None:
    """Replicates in turn, grids, one with a hole, failed runs, no variance of runs or of folds."""
    grid = [Pair(seed, fold) for seed in range(3) for fold in range(3)]
    for pairs in ([Pair(k, k % 5) for k in range(7)], [Pair(k, k % 5) for k in range(10)], grid, grid[1:]):
        for seed in range(4):
            rng = np.random.default_rng(seed)
            shape = (4, len(pairs))
            shift = rng.normal(0, 0.006 * (seed % 2), (4, 5))[:, [pair.fold for pair in pairs]]
            finished = rng.random(shape) > 0.05 * (seed // 2)
            targets = tuple(
                Target(
                    f"set{t}",
                    np.where(
                        finished[:, :, None], 0.7 + shift[:, :, None] + rng.normal(0, 0.005, (*shape, 8)), math.nan
                    ),
                    np.arange(8).astype(str),
                )
                for t in range(3)
            )
            found = mixed(Cells(tuple(f"arm{a}" for a in range(4)), tuple(pairs), targets, finished), [GAIN])
            assert isinstance(found, Mixed)
            assert found.converged
            assert found.effects[0].se > 0.0


def test_a_fit_that_found_no_maximum_has_no_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "minimize", lambda _, ratios, **__: SimpleNamespace(x=ratios + 3.0))
    found = mixed(simulated(0), [GAIN])
    assert isinstance(found, Mixed)
    assert not found.converged
    assert found.effects == ()
    assert found.note == "no maximum of its likelihood was found"


def test_arms_that_share_no_replicate_are_refused() -> None:
    cells = simulated(0, replicates=8, arms=4)
    finished = np.kron(np.eye(2), np.ones((2, 4))) > 0
    targets = tuple(replace(t, scores=np.where(finished[:, :, None], t.scores, math.nan)) for t in cells.targets)
    found = mixed(replace(cells, targets=targets, finished=finished), [GAIN])
    assert isinstance(found, Refused)
    assert "share replicates" in found.rule


def test_what_cannot_be_fitted_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    single = mixed(simulated(0, replicates=1), [GAIN])
    assert isinstance(single, Refused)
    assert "0 degrees of freedom" in single.value
    constant = simulated(0)
    for target in constant.targets:
        target.scores[:] = 0.5
    assert isinstance(mixed(constant, [GAIN]), Refused)
    crashed = simulated(0)
    for target in crashed.targets:
        target.scores[1] = math.nan
    gone = mixed(crashed, [GAIN])
    assert isinstance(gone, Refused)
    assert "arm1 has none" in gone.value
    monkeypatch.setattr(module, "MOST_RUNS", 14)
    assert isinstance(mixed(simulated(0), [GAIN]), Refused)
