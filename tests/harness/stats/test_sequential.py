"""Interim looks: what each may spend, and that what was decided stands."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from harness.simulation.scores import Truth, simulate
from harness.stats.multiplicity import adjust
from harness.stats.power import ContrastNoise, decided_by, more_needed
from harness.stats.scores import Contrast, Pair
from harness.stats.sequential import (
    ALPHA,
    Looks,
    _first,
    judge_looks,
    levels,
    look_record,
    over_looks,
    schedule,
    spent,
)
from harness.stats.verdicts import Differs, DoesNotMatter, Matters, Undecided, estimated

TEN = tuple(Pair(k, k) for k in range(10))
FAMILY = [Contrast(name, {name: 1.0, "base": -1.0}) for name in ("one", "two")]


def all_spent(looks: tuple[int, ...], most: int) -> Looks:
    """The looks done out of those planned from the last of them on, by a plan that spends all."""
    at = (*looks, *schedule(looks[-1], most)[1:])
    return Looks(at, levels(at, most), len(looks))


def test_spending_is_the_formula_of_lan_and_demets() -> None:
    expected = 2 * (1 - stats.norm.cdf(stats.norm.ppf(0.975) / math.sqrt(0.4)))
    assert spent(0.4) == pytest.approx(expected)
    assert (spent(0.0), spent(1.0)) == (0.0, pytest.approx(0.05))


@given(st.integers(3, 6), st.integers(6, 60), st.floats(0.001, 0.2))
def test_looks_rise_and_spend_alpha(first: int, most: int, alpha: float) -> None:
    looks = schedule(first, most)
    assert (looks[0], looks[-1]) == (first, most)
    assert list(looks) == sorted(set(looks))
    steps = levels(looks, most, alpha)
    assert sum(steps) == pytest.approx(alpha)
    assert min(steps) > 0.0


def test_a_study_that_stops_early_has_spent_less() -> None:
    assert sum(levels((3, 5), 10)) == pytest.approx(spent(0.5))


@pytest.mark.parametrize("looks", [(), (5, 3), (3, 3), (3, 12)])
def test_looks_that_do_not_rise_to_the_most_are_refused(looks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="rising numbers"):
        levels(looks, 10)


@pytest.mark.parametrize(("first", "most"), [(2, 10), (5, 4)])
def test_a_schedule_starts_at_three_or_more(first: int, most: int) -> None:
    with pytest.raises(ValueError, match="Looks must run from 3"):
        schedule(first, most)


def test_a_share_beyond_all_is_refused() -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\], but is 1.2"):
        spent(1.2)


def test_one_look_at_the_end_is_holm() -> None:
    p = np.random.default_rng(0).random((1, 50, 4))
    np.testing.assert_allclose(over_looks(p, [0.05]), adjust(p[0]))


def test_without_rejections_it_is_the_smallest_weighted_p() -> None:
    p = np.array([[[0.4, 0.5]], [[0.2, 0.9]]])
    np.testing.assert_allclose(over_looks(p, [0.01, 0.04]), [[0.2 * 2 / 0.8, 1.0]])


def test_a_rejection_stands_and_leaves_the_family() -> None:
    """The second hypothesis has the whole level of the second look, once the first is out."""
    p = np.array([[0.001, 0.5], [0.9, 0.039]])
    found = over_looks(p, [0.01, 0.04])
    assert found[0] == pytest.approx(0.001 * 2 * 5)
    assert found[1] == pytest.approx(0.039 / 0.8)


def test_what_could_not_be_tested_stays_open() -> None:
    found = over_looks(np.array([[math.nan, 0.3], [math.nan, 0.3]]), [0.01, 0.04])
    assert math.isnan(found[0])


def test_uniform_p_of_dependent_looks_keep_the_error() -> None:
    """Four looks at a growing mean, five true hypotheses with a common cause: 20,000 families."""
    rng = np.random.default_rng(3)
    looks = (3, 5, 8, 10)
    draws = rng.normal(size=(20_000, 5, 10)) + rng.normal(size=(20_000, 1, 10))
    z = np.stack([draws[..., :n].sum(axis=-1) / math.sqrt(2 * n) for n in looks])
    rejected = over_looks(2 * stats.norm.sf(np.abs(z)), levels(looks, 10)) <= 0.05
    assert rejected.any(axis=-1).mean() < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 20_000)


def test_an_early_verdict_stands_though_the_later_replicates_disagree() -> None:
    cells = simulate(
        Truth(effects={"base": 0.0, "one": 0.2, "two": 0.0}, replicates=TEN, replicate=0.001), np.random.default_rng(0)
    )
    for target in cells.targets:
        target.scores[1, 8:] -= 0.8
    one, two = judge_looks(cells, FAMILY, 0.005, all_spent((8, 10), 10), np.random.default_rng(1))
    assert one.verdict == Matters("helps")
    assert one.effect.replicates == 10
    assert one.effect.p > 0.05
    later = judge_looks(cells, FAMILY, 0.005, all_spent((10,), 10), np.random.default_rng(1))
    assert later[0].verdict != Matters("helps")
    assert isinstance(two.verdict, Undecided)


def test_what_a_look_has_decided_stands_though_a_trial_that_had_crashed_is_trained_later() -> None:
    """And in the direction that it saw; of 200 contrasts some would flip if the look were computed again."""
    one, five = [Contrast("one", {"one": 1.0, "base": -1.0})], TEN[:5]
    decided = flipped = 0
    for seed in range(200):
        truth = Truth(effects={"base": 0.0, "one": 0.006}, replicates=five, images={"cedar": 20})
        whole = simulate(truth, np.random.default_rng(seed))
        scores = whole.targets[0].scores.copy()
        scores[1, 4] = math.nan
        finished = whole.finished.copy()
        finished[1, 4] = False
        crashed = replace(whole, targets=(replace(whole.targets[0], scores=scores),), finished=finished)
        (then,) = judge_looks(crashed, one, 0.005, all_spent((5,), 5), np.random.default_rng(0))
        if isinstance(then.verdict, Undecided):
            continue
        kept = json.loads(json.dumps([look_record([(then.effect, then.targets)], 0.005)]))
        (now,) = judge_looks(whole, one, 0.005, all_spent((5,), 5), np.random.default_rng(0), kept=kept)
        assert type(now.verdict) is type(then.verdict)
        assert getattr(now.verdict, "direction", "") == getattr(then.verdict, "direction", "")
        assert now.effect.replicates == 5
        (again,) = judge_looks(whole, one, 0.005, all_spent((5,), 5), np.random.default_rng(0), kept=[None])
        decided, flipped = decided + 1, flipped + isinstance(again.verdict, Undecided)
    assert flipped > decided / 20


def test_a_decided_direction_stands_though_the_estimate_turns() -> None:
    cells = simulate(
        Truth(effects={"base": 0.0, "one": 0.2, "two": 0.0}, replicates=TEN, replicate=0.001), np.random.default_rng(0)
    )
    for target in cells.targets:
        target.scores[1, 8:] -= 2.0
    one, _ = judge_looks(cells, FAMILY, 0.005, all_spent((8, 10), 10), np.random.default_rng(1))
    assert one.effect.estimate < 0.0
    assert one.verdict == Matters("helps")


def test_of_two_verdicts_that_contradict_each_other_the_earlier_stands() -> None:
    """Beyond the smallest of interest at 8 replicates, and shown to be within it at 10; and the other way round."""
    quiet = {"replicate": 1e-4, "image_arm": 1e-4, "residual": 1e-4}
    for effect, later, expected in ((0.012, -0.06, Matters("helps")), (0.0, 0.1, DoesNotMatter())):
        truth = Truth(effects={"base": 0.0, "one": effect, "two": 0.0}, replicates=TEN, **quiet)
        cells = simulate(truth, np.random.default_rng(0))
        for target in cells.targets:
            target.scores[1, 8:] += later
        kept = [look_record([estimated(_first(cells, 8), one, np.random.default_rng(0)) for one in FAMILY], 0.005)]
        contrary = look_record([estimated(_first(cells, 8), one, np.random.default_rng(0)) for one in FAMILY], 0.005)
        other = [1e-9, 1e-9, 1.0, 0.02] if isinstance(expected, DoesNotMatter) else [1e-9, 1.0, 1e-9, 0.0]
        small = [1e-9, other[2], other[3]]
        contrary["one"] = {"mean": other, "targets": dict.fromkeys(contrary["one"]["targets"], small)}
        found = judge_looks(
            cells, FAMILY, 0.005, all_spent((8, 10), 10), np.random.default_rng(1), kept=[*kept, contrary]
        )
        assert found[0].verdict == expected


def test_what_differs_may_be_shown_to_matter_by_a_later_look() -> None:
    truth = Truth(effects={"base": 0.0, "one": 0.006, "two": 0.0}, replicates=TEN, replicate=0.001, image_arm=0.001)
    cells = simulate(truth, np.random.default_rng(3))
    first = judge_looks(cells, FAMILY, 0.0015, all_spent((8,), 10), np.random.default_rng(1))[0]
    last = judge_looks(cells, FAMILY, 0.0015, all_spent((8, 10), 10), np.random.default_rng(1))[0]
    assert isinstance(first.verdict, Differs)
    assert first.verdict.chance > 0.1
    assert last.verdict == Matters("helps")


def test_what_could_not_be_tested_is_kept_as_nothing() -> None:
    cells = simulate(Truth(effects={"base": 0.0, "one": 0.0, "two": 0.0}, replicates=TEN[:2]), np.random.default_rng(0))
    seen = look_record([estimated(cells, one, np.random.default_rng(0)) for one in FAMILY], 0.005)
    assert [row["mean"][:3] for row in seen.values()] == [[None] * 3] * 2
    assert [row[:2] for one in seen.values() for row in one["targets"].values()] == [[None] * 2] * 6


def test_one_look_at_all_replicates_is_holm_over_the_contrasts() -> None:
    cells = simulate(Truth(effects={"base": 0.0, "one": 0.02, "two": 0.0}, replicates=TEN), np.random.default_rng(0))
    looked = judge_looks(cells, FAMILY, 0.005, all_spent((10,), 10), np.random.default_rng(1))
    rng = np.random.default_rng(1)
    plain = [estimated(cells, one, rng) for one in FAMILY]
    assert [one.effect for one in looked] == [mean for mean, _ in plain]
    assert [one.differs_p for one in looked] == pytest.approx(adjust(np.array([mean.p for mean, _ in plain])))


def test_an_undecided_contrast_says_what_chance_the_looks_to_come_have() -> None:
    """The best of them, at the error that it may make, on the replicates that there would be; none after the last."""
    turns = tuple(Pair(k, k % 5) for k in range(20))
    truth = Truth(effects={"base": 0.0, "one": 0.004, "two": 0.0}, replicates=turns, fold=0.002)
    cells = simulate(truth, np.random.default_rng(0))
    one, _ = judge_looks(cells, FAMILY, 0.002, all_spent((5, 8), 20), np.random.default_rng(1))
    assert isinstance(one.verdict, Undecided)
    noise, steps = ContrastNoise.of(one.effect.parts(), one.effect.pairs), levels((5, 8, 12, 18, 20), 20)
    chances = [
        decided_by(one.effect.estimate, noise, turns[:look], step / 2, 0.002)
        for look, step in zip((12, 18, 20), steps[2:], strict=True)
    ]
    assert one.verdict.chance == pytest.approx(max(chances))
    assert 0.0 < one.verdict.chance < 1.0
    if one.verdict.more is not None:
        assert 8 + one.verdict.more in (12, 18) or one.verdict.more >= 12
    last = judge_looks(cells, FAMILY, 0.002, all_spent((5, 8, 12, 18, 20), 20), np.random.default_rng(1))
    assert all(math.isnan(each.verdict.chance) for each in last if isinstance(each.verdict, Undecided))


def test_a_look_beyond_the_replicates_is_refused() -> None:
    cells = simulate(Truth(effects={"base": 0.0, "one": 0.0, "two": 0.0}, replicates=TEN[:4]), np.random.default_rng(0))
    with pytest.raises(ValueError, match="look at 5 replicates"):
        judge_looks(cells, FAMILY, 0.005, all_spent((3, 5), 10), np.random.default_rng(1))


@given(st.integers(3, 6), st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=8))
def test_however_often_a_study_grows_its_looks_spend_less_than_alpha(
    first: int, growths: list[tuple[int, bool]]
) -> None:
    """By one look or by several, after all that were planned or before: what is done is never planned anew."""
    looks = Looks().planned((first,))
    for more, several in growths:
        before, end = looks, looks.at[-1] + more
        looks = looks.planned(schedule(first, end) if several else (end,))
        assert looks.past == before.past
        assert looks.errors[: looks.done] == before.errors[: before.done]
        assert list(looks.at) == sorted(set(looks.at))
        assert sum(looks.errors) + looks.growing() < ALPHA
        assert min(looks.errors) > 0.0
        looks = looks.looked()


def test_a_growth_may_make_four_fifths_of_the_error_that_is_left() -> None:
    first = Looks().planned((5,)).looked()
    grown = first.planned((9,)).looked().planned((15,))
    assert grown.errors == pytest.approx((0.04, 0.008, 0.0016))
    assert (first.error(5), first.error(9), grown.error(10)) == pytest.approx((0.04, 0.008, 0.0))
    several = first.planned(schedule(5, 20))
    assert several.at == (5, 8, 12, 18, 20)
    assert sum(several.errors[1:]) == pytest.approx(0.008)


def test_fewer_replicates_and_the_same_number_plan_nothing() -> None:
    looks = Looks().planned((5,)).looked()
    assert looks.planned((5,)) == looks.planned((3,)) == looks.planned(()) == looks
    ahead = looks.planned((9,))
    assert ahead.planned((7,)) == ahead
    assert ahead.planned((12,)).errors == ahead.errors, "nobody looked at nine"


def test_a_plan_that_spent_all_leaves_nothing_to_grow_with() -> None:
    """As studies did before growing was a look; what they had not come to is left."""
    old = Looks.of({"schedule": [3, 5, 7], "done": [{}, {}, {}]})
    assert sum(old.errors) == pytest.approx(ALPHA)
    assert old.growing() == old.error(9) == 0.0
    with pytest.raises(ValueError, match="looks at 3, 5, 7 replicates were planned to make all 5 %"):
        old.planned((9,))
    early = Looks.of({"schedule": [3, 5, 7], "done": [{}]}).planned((9,))
    assert early.at == (3, 9)
    assert early.errors[1] == pytest.approx(0.8 * (0.05 - old.errors[0]))


def test_looks_are_read_as_they_were_written() -> None:
    looks = Looks().planned((5,)).looked().planned((9,))
    assert Looks.of({**json.loads(json.dumps(looks.json())), "done": [{}]}) == looks


def test_nothing_is_decided_before_the_first_look() -> None:
    cells = simulate(Truth(effects={"base": 0.0, "one": 0.2, "two": 0.0}, replicates=TEN[:4]), np.random.default_rng(0))
    found = judge_looks(cells, FAMILY, 0.005, Looks().planned((6,)), np.random.default_rng(1))
    assert [one.verdict.more for one in found if isinstance(one.verdict, Undecided)] == [2, 2]
    assert math.isnan(found[0].differs_p)
    assert found[0].effect.replicates == 4
    assert "comes at 6 replicates, of which 4 are complete" in found[0].verdict.why  # type: ignore[union-attr]


def test_what_a_look_could_not_test_is_tested_once_it_can_be() -> None:
    """An arm whose runs all crashed at the look, and were trained since: no error was made for it."""
    truth = Truth(effects={"base": 0.0, "one": 0.2, "two": 0.0}, replicates=TEN[:5])
    cells = simulate(truth, np.random.default_rng(0))
    kept = look_record([estimated(cells, one, np.random.default_rng(0)) for one in FAMILY], 0.005)
    kept["one"] = {"mean": [None] * 4, "targets": {}}
    one, two = judge_looks(cells, FAMILY, 0.005, all_spent((5,), 5), np.random.default_rng(1), kept=[kept])
    assert one.verdict == Matters("helps")
    whole = judge_looks(cells, FAMILY, 0.005, all_spent((5,), 5), np.random.default_rng(1))
    assert two.differs_p == pytest.approx(whole[1].differs_p)


def many(more: int) -> tuple[Pair, ...]:
    """Further replicates after five."""
    return tuple(Pair(k, k) for k in range(5, 5 + more))


def test_the_forecast_is_of_the_error_that_growing_has() -> None:
    """Fewer replicates would be forecast at the whole 5 %: growing costs what was looked at."""
    cells = simulate(
        Truth(effects={"base": 0.0, "one": 0.006, "two": 0.0}, replicates=TEN[:5]), np.random.default_rng(2)
    )
    (grown,) = judge_looks(cells, FAMILY[:1], 0.001, Looks().planned((5,)).looked(), np.random.default_rng(1))
    assert isinstance(grown.verdict, Undecided)
    assert grown.verdict.more is not None
    noise = ContrastNoise.of(grown.effect.parts(), grown.effect.pairs)
    free = more_needed(grown.effect.estimate, noise, lambda more: TEN[:5] + many(more), lambda _: 0.05, 0.001)
    assert free is not None
    assert grown.verdict.more > free
    at = TEN[:5] + many(grown.verdict.more)
    assert decided_by(grown.effect.estimate, noise, at, 0.008, 0.001) >= 0.8
