from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, trim_mean

from harness.stats.aggregate import FEW, aggregates, improvement, interquartile_mean
from harness.stats.scores import Cells, Pair, Target


def cells(scores: list[np.ndarray], patients: int | None = None, finished: np.ndarray | None = None) -> Cells:
    """One data set for each of ``scores (arms, replicates, images)``."""
    arms, replicates = scores[0].shape[:2]
    targets = tuple(
        Target(f"set{t}", one, np.array([f"p{i % (patients or one.shape[2])}" for i in range(one.shape[2])]))
        for t, one in enumerate(scores)
    )
    names = tuple(f"arm{a}" for a in range(arms))
    done = np.ones((arms, replicates), dtype=bool) if finished is None else finished
    return Cells(names, tuple(Pair(r, r % 5) for r in range(replicates)), targets, done)


def simulated(rng: np.random.Generator, gain: float, replicates: int = 5, images: int = 20) -> Cells:
    scores = []
    shift = np.array([0.0, gain])[:, None, None] + rng.normal(0, 0.006, (2, replicates, 1))
    for _ in range(3):
        image = rng.normal(0.8, 0.04, (1, 1, images))
        scores.append(image + shift + rng.normal(0, 0.015, (2, replicates, images)))
    return cells(scores)


@pytest.mark.parametrize("n", [1, 3, 4, 5, 8, 90])
def test_the_interquartile_mean_is_scipys_trimmed_mean(n: int) -> None:
    values = np.random.default_rng(n).normal(size=(6, n))
    np.testing.assert_allclose(interquartile_mean(values), trim_mean(values, 0.25, axis=-1), atol=1e-12)


@pytest.mark.parametrize("replicates", [7, FEW + 1])
def test_the_probability_of_improvement_is_the_mean_of_mann_whitneys(replicates: int) -> None:
    rng = np.random.default_rng(0)
    arm, base = rng.integers(0, 4, size=(2, replicates, 3)) / 4  # with ties
    expected = np.mean([mannwhitneyu(arm[:, t], base[:, t]).statistic / replicates**2 for t in range(3)])
    assert improvement(arm, base) == pytest.approx(expected, abs=1e-12)
    by_pairs = np.mean([(x > y) + 0.5 * (x == y) for t in range(3) for x, y in product(arm[:, t], base[:, t])])
    assert improvement(arm, base) == pytest.approx(by_pairs, abs=1e-12)
    assert improvement(base, arm) == pytest.approx(1 - by_pairs, abs=1e-12)


def test_arms_and_base_are_summed_up_over_replicates_and_data_sets() -> None:
    made = simulated(np.random.default_rng(1), 0.02)
    base, arm = aggregates(made, "arm0", np.random.default_rng(0))
    means = made.means()
    assert arm.iqm == pytest.approx(trim_mean(means[1].ravel(), 0.25), abs=1e-12)
    assert arm.better == pytest.approx(improvement(means[1], means[0]), abs=1e-12)
    assert math.isnan(base.better)
    assert base.iqm_low < base.iqm < base.iqm_high
    assert 0.5 < arm.better_low <= arm.better <= arm.better_high <= 1.0
    assert (arm.replicates, arm.declared, arm.datasets, arm.images) == (5, 5, 3, 60)
    assert aggregates(made, "arm0", np.random.default_rng(0)) == (base, arm), "equal seeds, equal answers"


def test_intervals_hold_the_truth() -> None:
    """Both numbers' intervals over fresh seeds and patients; the truth of equal arms is one half."""
    rng = np.random.default_rng(0)
    held = {"iqm": 0, "better": 0}
    studies = 150
    for _ in range(studies):
        one = aggregates(simulated(rng, 0.0), "arm0", rng, resamples=300)[1]
        held["iqm"] += one.iqm_low <= 0.8 <= one.iqm_high
        held["better"] += one.better_low <= 0.5 <= one.better_high
    error = 3 * math.sqrt(0.05 * 0.95 / studies)
    assert held["iqm"] / studies > 0.95 - error
    assert held["better"] / studies > 0.95 - error


def shared(rng: np.random.Generator, pairs: list[Pair], images: int = 10) -> Cells:
    """Two equal arms, each with a shift of its own on every fold and every seed."""
    folds, seeds = [pair.fold for pair in pairs], [pair.seed for pair in pairs]
    shift = rng.normal(0, 0.006, (2, 20))[:, folds] + rng.normal(0, 0.004, (2, 20))[:, seeds]
    scores = 0.8 + shift[:, :, None] + rng.normal(0, 0.005, (2, len(pairs), images))
    target = Target("set", scores, np.array([f"p{i}" for i in range(images)]))
    return Cells(("arm0", "arm1"), tuple(pairs), (target,), np.ones((2, len(pairs)), dtype=bool))


@pytest.mark.parametrize(
    "pairs",
    [
        [Pair(k, k % 5) for k in range(15)],
        [Pair(k, k % 5) for k in range(13)],
        [Pair(s, f) for s in range(5) for f in range(5)],
    ],
    ids=["in turn", "unevenly", "grid"],
)
def test_shared_folds_and_seeds_are_drawn_whole(pairs: list[Pair]) -> None:
    """As many replicates that share folds, drawn one by one, put one half outside in a third of such studies."""
    rng, studies, held = np.random.default_rng(0), 200, 0
    for _ in range(studies):
        one = aggregates(shared(rng, pairs), "arm0", rng, resamples=300)[1]
        held += one.better_low <= 0.5 <= one.better_high
    assert held / studies > 0.95 - 3 * math.sqrt(0.05 * 0.95 / studies)


def test_a_grid_with_holes_has_no_interval() -> None:
    grid = [Pair(seed, fold) for seed in range(5) for fold in range(5)]
    one = aggregates(shared(np.random.default_rng(0), grid[1:]), "arm0", np.random.default_rng(0))[1]
    assert math.isfinite(one.better)
    assert math.isnan(one.better_low)


def test_many_images_of_a_patient_are_not_many_patients() -> None:
    rng = np.random.default_rng(0)
    patient = rng.normal(0.8, 0.05, (1, 1, 6))
    scores = np.tile(patient, (2, 5, 5)) + rng.normal(0, 0.001, (2, 5, 30))
    by_image = aggregates(cells([scores]), "arm0", np.random.default_rng(0))[0]
    by_patient = aggregates(cells([scores], patients=6), "arm0", np.random.default_rng(0))[0]
    assert by_patient.iqm_high - by_patient.iqm_low > 1.8 * (by_image.iqm_high - by_image.iqm_low)


def test_only_what_both_arms_have_is_compared() -> None:
    rng = np.random.default_rng(0)
    made = simulated(rng, 0.02, replicates=6)
    made.finished[1, 2] = False
    for target in made.targets:
        target.scores[1, 2] = math.nan
    made.targets[0].scores[0, 0, 3] = math.nan
    base, arm = aggregates(made, "arm0", np.random.default_rng(0))
    assert (base.replicates, base.declared, base.images) == (6, 6, 59)
    assert (arm.replicates, arm.declared, arm.images) == (5, 6, 59)
    kept = [0, 1, 3, 4, 5]
    image = np.delete(np.arange(20), 3)
    first = made.targets[0].scores[1][np.ix_(kept, image)].mean(axis=1)
    others = [target.scores[1][kept].mean(axis=1) for target in made.targets[1:]]
    assert arm.iqm == pytest.approx(trim_mean(np.concatenate([first, *others]), 0.25), abs=1e-12)


def test_a_run_without_a_data_set_leaves_the_comparison_and_not_the_data_set() -> None:
    made = simulated(np.random.default_rng(0), 0.02)
    made.targets[1].scores[1, 4] = math.nan
    arm = aggregates(made, "arm0", np.random.default_rng(0))[1]
    assert (arm.replicates, arm.datasets) == (4, 3)


def test_four_replicates_have_no_interval_and_none_has_nothing() -> None:
    made = simulated(np.random.default_rng(0), 0.02, replicates=4)
    arm = aggregates(made, "arm0", np.random.default_rng(0))[1]
    assert math.isfinite(arm.iqm)
    assert math.isfinite(arm.better)
    assert math.isnan(arm.iqm_low)
    assert math.isnan(arm.better_high)
    made.finished[1] = False
    gone = aggregates(made, "arm0", np.random.default_rng(0))[1]
    assert math.isnan(gone.iqm)
    assert (gone.replicates, gone.datasets, gone.images) == (0, 0, 0)


def test_four_patients_have_no_interval() -> None:
    made = simulated(np.random.default_rng(0), 0.02, images=4)
    assert math.isnan(aggregates(made, "arm0", np.random.default_rng(0))[1].iqm_low)


def test_patients_of_two_data_sets_are_drawn_once() -> None:
    """The same images twice are no more than once; where names do not match, nobody knows, and there is no interval."""
    made = simulated(np.random.default_rng(0), 0.0)
    one = replace(made.targets[0], pools=frozenset({"pool"}))
    again = replace(one, name="again")
    other = replace(again, patients=np.array([f"q{i}" for i in range(20)]))

    def interval(*targets: Target) -> tuple[float, float]:
        found = aggregates(replace(made, targets=targets), "arm0", np.random.default_rng(0))[1]
        return found.better_low, found.better_high

    assert interval(one, again) == interval(one)
    assert np.isnan(interval(one, other)).all()


def test_constant_scores_have_intervals_of_no_width() -> None:
    arm = aggregates(cells([np.full((2, 5, 5), 0.5)]), "arm0", np.random.default_rng(0))[1]
    assert (arm.iqm_low, arm.iqm, arm.iqm_high) == (0.5, 0.5, 0.5)
    assert (arm.better_low, arm.better, arm.better_high) == (0.5, 0.5, 0.5)


def test_the_base_must_be_an_arm() -> None:
    with pytest.raises(ValueError, match="is 'gone'"):
        aggregates(simulated(np.random.default_rng(0), 0.0), "gone", np.random.default_rng(0))
