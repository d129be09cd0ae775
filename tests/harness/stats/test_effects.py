"""Effects against the analysis of variance written out, and on cells that are not all there."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from harness.simulation.scores import Truth, simulate
from harness.stats.arm_means import arm_means
from harness.stats.effects import Effect, effect
from harness.stats.ranks import ranks
from harness.stats.refusal import Refused
from harness.stats.scores import Cells, Contrast, Pair, Target

FIVE = tuple(Pair(k, k) for k in range(5))
B_OVER_A = Contrast("b over a", {"b": 1.0, "a": -1.0})


def study(seed: int = 0, **settings: object) -> Cells:
    given = {"effects": {"a": 0.0, "b": 0.01, "c": 0.0}, "replicates": FIVE, "images": {"cedar": 12, "rowan": 7}}
    return simulate(Truth(**(given | settings)), np.random.default_rng(seed))  # type: ignore[arg-type]


def over(cells: Cells, target: str | None = None, contrast: Contrast = B_OVER_A) -> Effect:
    return effect(cells, contrast, target, np.random.default_rng(1))


def with_scores(cells: Cells, at: int, scores: np.ndarray) -> Cells:
    targets = list(cells.targets)
    targets[at] = replace(targets[at], scores=scores)
    return replace(cells, targets=tuple(targets))


def test_the_estimate_is_the_mean_over_targets_of_the_mean_over_replicates_and_images() -> None:
    cells = study()
    each = [(target.scores[1] - target.scores[0]).mean() for target in cells.targets]
    assert over(cells).estimate == pytest.approx(np.mean(each))
    assert [over(cells, name).estimate for name in ("cedar", "rowan")] == pytest.approx(each)


def test_variance_is_that_of_the_two_way_crossed_analysis_of_variance() -> None:
    """(MS_R + MS_I - MS_E) / (R n) with the mean squares from sums of squares of the classical table."""
    cells = study(3)
    d = cells.targets[0].scores[1] - cells.targets[0].scores[0]
    count, images = d.shape
    rows = images * ((d.mean(1) - d.mean()) ** 2).sum()
    columns = count * ((d.mean(0) - d.mean()) ** 2).sum()
    rest = ((d - d.mean()) ** 2).sum() - rows - columns
    squares = rows / (count - 1), columns / (images - 1), rest / ((count - 1) * (images - 1))
    found = over(cells, "cedar")
    assert squares[1] > squares[2]
    assert found.se**2 == pytest.approx((squares[0] + squares[1] - squares[2]) / (count * images))
    assert found.share_of_replicates == pytest.approx(squares[0] / (count * images) / found.se**2)
    assert found.df == count - 1


def test_without_variance_between_images_it_is_the_paired_t_test() -> None:
    """Every image moves alike: what is left is a t test of the replicates' differences, as scipy makes it."""
    cells = study(image_arm=0.0, residual=0.0)
    means = cells.means().mean(axis=2)
    expected = stats.ttest_rel(means[1], means[0])
    found = over(cells)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-6)
    assert found.share_of_replicates == pytest.approx(1.0)


def test_without_variance_between_replicates_it_is_the_paired_t_test_over_images() -> None:
    cells = study(replicate=0.0, residual=0.0)
    expected = stats.ttest_1samp(cells.targets[0].scores[1, 0] - cells.targets[0].scores[0, 0], 0.0)
    found = over(cells, "cedar")
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert found.share_of_replicates == pytest.approx(0.0, abs=1e-12)


def test_images_of_one_patient_count_as_one() -> None:
    """Each image three times under its patient's name: nothing new was seen, so nothing may change."""
    once = study()
    thrice = replace(
        once,
        targets=tuple(Target(t.name, np.repeat(t.scores, 3, axis=2), np.repeat(t.patients, 3)) for t in once.targets),
    )
    one, three = over(once), over(thrice)
    assert (three.estimate, three.low, three.high) == pytest.approx((one.estimate, one.low, one.high))
    assert (three.images, three.patients) == (57, 19)
    alone = replace(
        thrice, targets=tuple(replace(t, patients=np.arange(t.patients.size).astype(str)) for t in thrice.targets)
    )
    assert over(alone).se < one.se


def test_an_unequal_patient_weighs_as_many_images_as_it_has() -> None:
    cells = study(images={"cedar": 6}, per_patient=4)
    assert cells.targets[0].patients.tolist() == ["cedar-000"] * 4 + ["cedar-001"] * 2
    d = (cells.targets[0].scores[1] - cells.targets[0].scores[0]).mean(0)
    found = over(cells)
    assert found.estimate == pytest.approx(d.mean())
    first, second = d[:4].mean(), d[4:].mean()
    by_hand = (4 / 6) ** 2 * (first - d.mean()) ** 2 / (2 / 6) + (2 / 6) ** 2 * (second - d.mean()) ** 2 / (4 / 6)
    rest = found.parts().variances[-1]
    assert rest <= by_hand * (1 + 1e-9)


def test_a_replicate_counts_only_where_both_arms_completed() -> None:
    cells = study()
    finished = cells.finished.copy()
    finished[0, 1] = finished[2, 4] = False
    lost = [t.scores.copy() for t in cells.targets]
    for scores in lost:
        scores[0, 1] = scores[2, 4] = math.nan
    cut = replace(with_scores(with_scores(cells, 0, lost[0]), 1, lost[1]), finished=finished)
    found = over(cut)
    assert (found.replicates, found.declared) == (4, 5)
    d = [np.delete(t.scores[1] - t.scores[0], 1, axis=0).mean() for t in cells.targets]
    assert found.estimate == pytest.approx(np.mean(d))
    assert over(cut, contrast=Contrast("c", {"c": 1.0, "b": -1.0})).replicates == 4


def test_an_image_without_a_score_in_one_arm_is_left_out_of_all_and_counted() -> None:
    cells = study()
    scores = cells.targets[0].scores.copy()
    scores[1, 2, 5] = math.nan
    found = over(with_scores(cells, 0, scores))
    kept = np.delete(cells.targets[0].scores, 5, axis=2)
    assert (found.images, found.undefined, found.patients) == (18, 1, 18)
    assert found.estimate == pytest.approx(
        over(
            with_scores(
                replace(
                    cells, targets=(Target("cedar", kept, np.delete(cells.targets[0].patients, 5)), cells.targets[1])
                ),
                0,
                kept,
            )
        ).estimate
    )


def test_two_replicates_give_an_estimate_without_an_interval() -> None:
    found = over(study(replicates=FIVE[:2]))
    assert math.isfinite(found.estimate)
    assert all(math.isnan(value) for value in (found.low, found.high, found.se, found.p, found.flip_p, found.boot_low))
    assert "only 2 replicates" in found.why
    with pytest.raises(ValueError, match="must have an interval"):
        found.parts()


def test_no_completed_replicate_gives_no_estimate() -> None:
    cells = study()
    nothing = replace(
        cells,
        finished=np.zeros_like(cells.finished),
        targets=tuple(replace(t, scores=np.full_like(t.scores, math.nan)) for t in cells.targets),
    )
    found = over(nothing)
    assert math.isnan(found.estimate)
    assert (found.replicates, found.images, found.undefined) == (0, 0, 19)
    assert "only 0 replicates" in found.why


def test_a_target_without_scores_is_named_and_the_others_are_still_judged() -> None:
    cells = study()
    empty = with_scores(cells, 1, np.full_like(cells.targets[1].scores, math.nan))
    found = [effect(empty, B_OVER_A, target, np.random.default_rng(0)) for target in (None, "cedar", "rowan")]
    assert "rowan" in found[0].why
    assert "rowan" in found[2].why
    assert not found[1].why
    assert math.isnan(found[0].estimate)


def test_arms_and_their_differences_use_the_same_replicates_and_images() -> None:
    """A target without scores costs no replicate of either; lost results and images are lost to both."""
    cells = study()
    empty = with_scores(cells, 1, np.full_like(cells.targets[1].scores, math.nan))
    scores = cells.targets[1].scores.copy()
    scores[:2, 3] = math.nan
    scores[:2, 0, 2] = math.nan
    for made in (cells, empty, with_scores(cells, 1, scores)):
        one = over(made)
        two = [mean for mean in arm_means(made) if mean.arm in "ab" and mean.target is None]
        for mean in two:
            assert (mean.replicates, mean.images, mean.patients) == (one.replicates, one.images, one.patients)
        np.testing.assert_allclose(two[1].mean - two[0].mean, one.estimate, atol=1e-12)
    assert over(empty).replicates == 5


def test_arms_that_score_alike_are_not_told_apart_by_rounding() -> None:
    cells = study(effects={"a": 0.0, "b": 0.0, "c": -0.1}, image_arm=0.0, replicate=0.0, residual=0.0)
    noise = np.array([0.0, 1e-16, 0.0])[:, None, None]
    alike = replace(cells, targets=tuple(replace(t, scores=t.scores * (1.0 + 2 * noise)) for t in cells.targets))
    found = ranks(alike)
    assert not isinstance(found, Refused)
    assert [(one.arm, one.place, one.best, one.worst) for one in found] == [
        ("a", 1.5, 1, 2),
        ("b", 1.5, 1, 2),
        ("c", 3, 3, 3),
    ]


def test_a_target_of_one_patient_has_an_estimate_but_no_interval() -> None:
    found = over(study(images={"cedar": 12, "rowan": 1}))
    assert math.isfinite(found.estimate)
    assert "rowan has one patient" in found.why


def test_a_lost_result_costs_its_replicate_not_its_target() -> None:
    cells = study()
    scores = cells.targets[1].scores.copy()
    scores[0, 3] = math.nan
    found = over(with_scores(cells, 1, scores))
    assert (found.replicates, found.images, found.why) == (4, 19, "")


@pytest.mark.parametrize("shift", [0.0, 0.02])
def test_a_constant_contrast_has_an_interval_of_no_width(shift: float) -> None:
    cells = study(effects={"a": 0.0, "b": shift, "c": 0.0}, image_arm=0.0, replicate=0.0, residual=0.0, image=0.0)
    found = over(cells)
    assert (found.low, found.high, found.se) == pytest.approx((shift, shift, 0.0), abs=1e-12)
    assert found.p == (1.0 if shift == 0.0 else pytest.approx(0.0, abs=1e-12))


def test_rounding_is_no_effect() -> None:
    """Arms that score alike, in a contrast with weights that cannot be written exactly."""
    cells = study(effects=dict.fromkeys("abcd", 0.0), image_arm=0.0, replicate=0.0, residual=0.0)
    found = over(cells, contrast=Contrast("thirds", {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3, "d": -1.0}))
    assert (found.estimate, found.p) == (0.0, 1.0)


def test_neither_the_order_of_arms_images_nor_replicates_matters() -> None:
    cells = study()
    rng = np.random.default_rng(5)
    arms, reps = rng.permutation(3), rng.permutation(5)
    targets = []
    for target in cells.targets:
        images = rng.permutation(len(target.patients))
        targets.append(Target(target.name, target.scores[arms][:, reps][:, :, images], target.patients[images]))
    shuffled = Cells(
        tuple(cells.arms[k] for k in arms), tuple(cells.replicates[k] for k in reps), tuple(targets), cells.finished
    )
    one, other = over(cells), over(shuffled)
    assert (other.estimate, other.low, other.p, other.flip_p) == pytest.approx(
        (one.estimate, one.low, one.p, one.flip_p)
    )


def test_the_same_generator_gives_the_same_numbers() -> None:
    assert over(study()) == over(study())


def test_an_unknown_target_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"one of cedar, rowan, but is 'oak'"):
        over(study(), "oak")


def shared(patients: dict[str, list[str]]) -> Cells:
    """Two arms, five replicates, targets of one pool with these patients, one image each."""
    rng = np.random.default_rng(3)
    people = sorted({name for names in patients.values() for name in names})
    shift = dict(zip(people, rng.normal(0.0, 0.1, len(people)), strict=True))
    targets = []
    for target, names in patients.items():
        scores = 0.7 + 0.005 * rng.normal(size=(2, 5, len(names)))
        scores[1] += [shift[name] for name in names]
        targets.append(Target(target, scores, np.array(names), frozenset({"drive"})))
    return Cells(("a", "b"), tuple(Pair(k, k) for k in range(5)), tuple(targets), np.ones((2, 5), dtype=bool))


def test_two_targets_of_one_pool_have_the_images_part_of_one() -> None:
    names = [f"{k:02d}" for k in range(20)]
    cells = shared({"drive": names, "rite": names})
    both, alone = over(cells), over(cells, "drive")
    assert both.patients == 20
    assert both.images == 40
    images, single = both.parts(), alone.parts()
    assert images.degrees[-1] == pytest.approx(19.0)
    assert images.variances[-1] == pytest.approx(single.variances[-1], rel=0.05)
    apart = Cells(
        cells.arms, cells.replicates, tuple(replace(t, pools=frozenset()) for t in cells.targets), cells.finished
    )
    assert over(apart).parts().variances[-1] == pytest.approx(images.variances[-1] / 2, rel=0.05)


def test_patients_that_names_do_not_match_are_refused_together_and_judged_alone() -> None:
    cells = shared({"rim_one_r3": [f"N-{k}" for k in range(12)], "rim_one_dl": [f"r3_Im{k:03d}" for k in range(12)]})
    assert "share patients, but their names do not say which" in over(cells).why
    assert math.isfinite(over(cells).estimate)
    assert not over(cells, "rim_one_dl").why
