"""Verdicts: what is called what, and Holm against the closed test it abbreviates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from harness.simulation.scores import Truth, simulate
from harness.stats.crossed_variance import Parts, replicate_parts
from harness.stats.multiplicity import adjust
from harness.stats.power import ContrastNoise, detectable, exaggeration, power
from harness.stats.scores import Cells, Contrast, Pair, continued
from harness.stats.sequential import Looks, judge_looks
from harness.stats.verdicts import (
    Differs,
    DoesNotMatter,
    Judged,
    Matters,
    Opposed,
    PerTest,
    SmallOnAverage,
    Undecided,
)

ARMS = ("base", "one", "two", "three")
FAMILY = [Contrast(name, {name: 1.0, "base": -1.0}) for name in ARMS[1:]]


def judge(cells: Cells, contrasts: Sequence[Contrast], smallest: float, rng: np.random.Generator) -> tuple[Judged, ...]:
    """As a report does when all replicates have ended."""
    return judge_looks(cells, contrasts, smallest, Looks().planned((len(cells.replicates),)).looked(), rng)


def judged(
    *shifts: float,
    replicates: int = 5,
    pairs: tuple[Pair, ...] = (),
    smallest: float = 0.005,
    seed: int = 0,
    **sds: float,
) -> tuple[Judged, ...]:
    effects = dict(zip(ARMS, (0.0, *shifts), strict=True))
    pairs = pairs or tuple(Pair(k, k) for k in range(replicates))
    cells = simulate(Truth(effects=effects, replicates=pairs, **sds), np.random.default_rng(seed))  # type: ignore[arg-type]
    return judge(cells, FAMILY, smallest, np.random.default_rng(1))


def test_a_large_effect_matters_in_its_direction() -> None:
    up, down, none = judged(0.05, -0.05, 0.0)
    assert (up.verdict, down.verdict) == (Matters("helps"), Matters("hurts"))
    assert isinstance(none.verdict, Undecided | DoesNotMatter)
    assert up.differs_p <= 0.05 < up.equivalence_p


def test_an_effect_shown_to_be_tiny_does_not_matter_even_if_it_is_there() -> None:
    found = judged(0.002, -0.002, 0.0, replicate=1e-4, image_arm=1e-4, residual=1e-4)
    assert [one.verdict for one in found] == [DoesNotMatter()] * 3
    assert found[0].differs_p < 0.05


QUIET = {"replicate": 1e-4, "image_arm": 1e-4, "residual": 1e-4}


def test_an_effect_shown_to_be_larger_than_the_smallest_matters_and_one_that_may_be_smaller_only_differs() -> None:
    far, near, _ = judged(0.03, -0.005, 0.0, image_arm=0.002, replicate=0.001, residual=0.002)
    assert far.verdict == Matters("helps")
    assert max(far.differs_p, far.beyond_p) <= 0.05
    assert isinstance(near.verdict, Differs)
    assert near.verdict.direction == "hurts"
    assert near.differs_p <= 0.05 < near.beyond_p
    assert near.verdict.why


def on_targets(*shifts: float, smallest: float = 0.005, **sds: float) -> Judged:
    """One contrast whose effect is each of ``shifts`` on a target of its own."""
    truth = Truth(
        effects={"base": 0.0, "one": 0.0}, replicates=tuple(Pair(k, k) for k in range(6)),
        images={f"t{k}": 20 for k in range(len(shifts))}, **(QUIET | sds),  # type: ignore[arg-type]
    )  # fmt: skip
    cells = simulate(truth, np.random.default_rng(0))
    for target, shift in zip(cells.targets, shifts, strict=True):
        target.scores[1] += shift
    (found,) = judge(cells, [Contrast("one", {"one": 1.0, "base": -1.0})], smallest, np.random.default_rng(1))
    return found


def test_an_effect_that_cancels_over_the_targets_is_not_said_to_be_small() -> None:
    """+.02 here, -.02 there: the mean is shown to be small, and that is not what is said."""
    found = on_targets(0.02, -0.02, 0.0)
    assert found.equivalence_p <= 0.05 < found.everywhere_p
    assert found.verdict == Opposed(("t0",), ("t1",))


def test_a_mean_that_is_small_names_the_targets_that_may_not_be() -> None:
    found = on_targets(0.012, 0.0, 0.0)
    assert found.equivalence_p <= 0.05 < found.everywhere_p
    assert found.verdict == SmallOnAverage(("t0",))


def test_opposite_effects_that_are_too_small_everywhere_do_not_matter() -> None:
    found = on_targets(0.002, -0.002, 0.0)
    assert found.verdict == DoesNotMatter()
    assert found.everywhere_p <= 0.05


def test_opposite_effects_are_named_although_their_mean_is_beyond_the_smallest() -> None:
    found = on_targets(0.05, 0.05, -0.02)
    assert found.beyond_p <= 0.05
    assert found.verdict == Opposed(("t0", "t1"), ("t2",))


def test_on_one_target_small_on_average_is_small_everywhere() -> None:
    found = on_targets(0.001)
    assert found.verdict == DoesNotMatter()
    assert found.everywhere_p == found.equivalence_p


def test_a_family_of_targets_is_adjusted_as_one() -> None:
    p = np.random.default_rng(0).random((4, 2, 3)) * 0.1
    whole = np.random.default_rng(1).random((4, 2))
    made = PerTest(whole, whole, whole, whole, p, p).each(adjust)
    np.testing.assert_array_equal(made.differs_on, adjust(p.reshape(4, 6)).reshape(4, 2, 3))
    np.testing.assert_array_equal(made.beyond, adjust(whole))


@given(st.floats(-0.05, 0.05), st.floats(1e-4, 0.05))
@settings(max_examples=50)
def test_beyond_is_at_most_a_level_where_the_whole_interval_lies_beyond(estimate: float, smallest: float) -> None:
    parts = Parts(
        np.array(estimate), ("replicates", "images"), np.array([4e-5, 1e-5]), np.array([4.0, 57.0]), np.array(0.0)
    )
    p = float(parts.beyond_p(smallest))
    assert p >= float(parts.p()) - 1e-12
    for level in (0.5, 0.9, 0.95, 0.999):
        whole = abs(estimate) - float(parts.margin(level)) > smallest
        assert whole == (p < 1.0 - level) or math.isclose(p, 1.0 - level, rel_tol=1e-6)


def test_only_a_verdict_of_an_effect_says_how_much_it_is_overstated() -> None:
    far, near, none = judged(0.05, -0.0035, 0.0, image_arm=0.002, replicate=0.002, residual=0.002)
    assert far.inflation == pytest.approx(1.0, abs=0.01)
    assert isinstance(near.verdict, Differs)
    noise = ContrastNoise.of(near.effect.parts(), near.effect.pairs)
    expected = exaggeration(near.effect.estimate, noise, near.effect.pairs, 0.04 / 3)
    assert near.inflation == pytest.approx(expected)
    assert expected > 1.0
    assert math.isnan(none.inflation)


def test_an_undecided_contrast_says_how_many_more_replicates() -> None:
    one, *_ = judged(0.01, 0.0, 0.0, replicate=0.01, image_arm=0.002)
    assert isinstance(one.verdict, Undecided)
    assert one.verdict.more is not None
    assert one.verdict.more >= 1
    assert f"{one.verdict.more} more replicates" in one.verdict.why


def test_where_the_images_are_too_few_no_number_of_replicates_is_promised() -> None:
    one, *_ = judged(0.0, 0.0, 0.0, image_arm=0.05, replicate=0.001)
    assert one.verdict == Undecided(None, "no number of replicates would decide it: the images are too few")


TURNS = tuple(Pair(k, k % 5) for k in range(10))


def test_where_there_are_no_more_folds_no_number_of_replicates_is_promised() -> None:
    """Half a true effect's size is what the fold adds: on one fold, or had each replicate its own, some would do."""
    sds = {"fold": 0.01, "replicate": 0.001, "image_arm": 0.001, "residual": 0.001}
    one, *_ = judged(0.012, 0.0, 0.0, pairs=TURNS, smallest=0.001, seed=3, **sds)
    assert isinstance(one.verdict, Undecided)
    assert one.verdict.more is None
    assert "they share 5 folds" in one.verdict.why
    assert "grid(seeds=20, folds=1)" in one.verdict.why
    grid = tuple(Pair(seed, fold) for seed in range(4) for fold in range(3))
    one, *_ = judged(0.012, 0.0, 0.0, pairs=grid, smallest=0.001, seed=3, **sds)
    assert isinstance(one.verdict, Undecided)
    assert "declare it on 5 folds, or on one fold" in one.verdict.why


def test_a_promise_from_replicates_that_share_no_fold_says_what_they_cannot_tell() -> None:
    one, *_ = judged(0.01, 0.0, 0.0, replicate=0.01, image_arm=0.002)
    assert isinstance(one.verdict, Undecided)
    assert one.verdict.why.endswith(
        "and does not vary from fold to fold, which 5 replicates on as many folds cannot tell"
    )
    one, *_ = judged(0.007, 0.0, 0.0, pairs=TURNS, replicate=0.008, image_arm=0.002, seed=4)
    assert isinstance(one.verdict, Undecided)
    assert one.verdict.why.endswith("if this is the effect")


def test_what_is_promised_is_kept_by_the_replicates_that_would_be_added() -> None:
    """Five replicates say how many more; at the effect and the variances they saw, so many decide in four of five."""
    truth = {"effects": {"base": 0.0, "one": 0.0085}, "image_arm": 0.001}
    one = [Contrast("one", {"one": 1.0, "base": -1.0})]
    cells = simulate(Truth(replicates=TURNS[:5], **truth), np.random.default_rng(6))  # type: ignore[arg-type]
    (found,) = judge(cells, one, 0.001, np.random.default_rng(0))
    assert isinstance(found.verdict, Undecided)
    assert found.verdict.more is not None
    pairs = (*TURNS[:5], *continued(TURNS[:5], found.verdict.more))
    seen = ContrastNoise.of(found.effect.parts(), found.effect.pairs)
    rng = np.random.default_rng(1)
    drawn = found.effect.estimate + rng.normal(0.0, math.sqrt(seen.replicate), (4000, len(pairs)))
    names, variances, degrees = replicate_parts(drawn, pairs)
    assert (names, degrees) == (("folds",), [4.0])
    parts = Parts(drawn.mean(axis=1), names, np.stack(variances), np.full((1, 4000), 4.0), np.zeros(4000))
    assert (parts.p() <= 0.008).mean() >= 0.77  # without what the images add, which is next to nothing here


def test_what_a_study_can_detect_stands_beside_every_verdict() -> None:
    """At the level of its family's open contrasts, with its own variances, on its own replicates."""
    clear, *others = judged(0.05, 0.0, 0.0, pairs=TURNS)
    noise = ContrastNoise.of(clear.effect.parts(), clear.effect.pairs)
    assert isinstance(clear.verdict, Matters)
    assert all(not isinstance(one.verdict, Matters) for one in others)
    assert clear.detectable == pytest.approx(detectable(noise, TURNS, 0.04 / 2))
    assert power(clear.detectable, noise, TURNS, 0.04 / 2) > 0.8
    assert 0.0 < clear.detectable < 0.05
    assert math.isnan(judged(0.5, 0.5, 0.5, replicates=2)[0].detectable)


def test_two_replicates_leave_everything_undecided_by_the_missing_one() -> None:
    for one in judged(0.5, 0.5, 0.5, replicates=2):
        assert isinstance(one.verdict, Undecided)
        assert one.verdict.more == 1
        assert math.isnan(one.differs_p)


def test_exactly_no_effect_is_never_called_one() -> None:
    found = judged(0.0, 0.0, 0.0, replicate=0.0, image_arm=0.0, residual=0.0)
    assert [one.verdict for one in found] == [DoesNotMatter()] * 3
    assert [one.differs_p for one in found] == [1.0] * 3


@pytest.mark.parametrize("smallest", [0.0, -1.0, math.nan, math.inf])
def test_the_smallest_effect_of_interest_must_be_positive(smallest: float) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        judged(0.0, 0.0, 0.0, smallest=smallest)


def test_contrasts_of_one_name_are_refused() -> None:
    pairs = tuple(Pair(k, k) for k in range(3))
    cells = simulate(Truth(effects=dict.fromkeys(ARMS, 0.0), replicates=pairs), np.random.default_rng(0))
    with pytest.raises(ValueError, match="names that differ"):
        judge(cells, [FAMILY[0], FAMILY[0]], 0.005, np.random.default_rng(0))


@given(arrays(np.float64, st.integers(1, 5), elements=st.floats(0.0, 1.0)))
@settings(max_examples=100)
def test_holm_is_the_closed_test_of_bonferroni(p: np.ndarray) -> None:
    """Adjusted is the largest Bonferroni p of all the intersections that a hypothesis is in (Marcus et al. 1976)."""
    every = [s for size in range(1, len(p) + 1) for s in itertools.combinations(range(len(p)), size)]
    closed = [max(min(1.0, len(s) * p[list(s)].min()) for s in every if k in s) for k in range(len(p))]
    np.testing.assert_allclose(adjust(p), closed, atol=1e-12)


def test_an_untested_hypothesis_stays_open_and_counts() -> None:
    np.testing.assert_allclose(adjust(np.array([0.02, math.nan, 0.01])), [0.04, math.nan, 0.03])


def test_holm_takes_families_row_by_row() -> None:
    p = np.random.default_rng(0).random((5, 4))
    np.testing.assert_array_equal(adjust(p), np.stack([adjust(row) for row in p]))
