"""Ranks, and the ranks that paired differences leave open."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from benchmarks.error_rates import ALPHA, PAIRS, RANKED, plain, ranked
from harness.simulation.scores import Truth, simulate
from harness.stats.effects import effect
from harness.stats.multiplicity import adjust
from harness.stats.ranks import MOST, Rank, ranks
from harness.stats.refusal import Refused
from harness.stats.scores import Cells, Contrast


def study(effects: dict[str, float], seed: int = 0, count: int = 5, **settings: float) -> Cells:
    return simulate(Truth(effects=effects, replicates=plain(count), **settings), np.random.default_rng(seed))


def asked(cells: Cells) -> dict[str, Rank]:
    found = ranks(cells)
    assert not isinstance(found, Refused)
    return {one.arm: one for one in found}


def lost(cells: Cells, arm: int, replicates: list[int]) -> Cells:
    """The study had these trials of the arm failed."""
    finished = cells.finished.copy()
    finished[arm, replicates] = False
    targets = []
    for target in cells.targets:
        scores = target.scores.copy()
        scores[arm, replicates] = math.nan
        targets.append(replace(target, scores=scores))
    return Cells(cells.arms, cells.replicates, tuple(targets), finished)


def test_an_arm_may_have_the_ranks_that_no_difference_excludes() -> None:
    """By hand: one more than those shown to be better, as many fewer than all as are shown to be worse."""
    cells = study({"a": 0.0, "b": 0.02, "c": 0.021, "d": 0.06}, seed=3)
    pairs = list(combinations(cells.arms, 2))
    own = [effect(cells, Contrast("x", {i: 1, j: -1}), None, np.random.default_rng(0)) for i, j in pairs]
    shown = adjust(np.array([one.p for one in own])) <= ALPHA
    ahead = {(i, j) if one.estimate > 0 else (j, i) for (i, j), one, yes in zip(pairs, own, shown, strict=True) if yes}
    found = asked(cells)
    for arm, one in found.items():
        assert one.best == 1 + sum(loser == arm for _, loser in ahead)
        assert one.worst == 4 - sum(winner == arm for winner, _ in ahead)
        assert one.best <= one.place <= one.worst
    assert (found["d"].best, found["d"].worst) == (1, 1), "far ahead"
    assert (found["a"].best, found["a"].worst) == (4, 4), "far behind"
    assert {found["b"].worst, found["c"].worst} == {3}


def test_places_are_those_of_the_means_best_first() -> None:
    cells = study({"a": 0.0, "b": 0.3, "c": 0.1})
    assert [(one.arm, one.place) for one in asked(cells).values()] == [("b", 1), ("c", 2), ("a", 3)]


def test_the_order_of_arms_changes_no_rank() -> None:
    cells = study({"a": 0.0, "b": 0.01, "c": 0.03})
    turned = Cells(
        cells.arms[::-1],
        cells.replicates,
        tuple(replace(target, scores=target.scores[::-1]) for target in cells.targets),
        cells.finished[::-1],
    )
    assert asked(turned) == asked(cells)


def test_equal_scores_share_a_rank_and_leave_all_open() -> None:
    cells = study({"a": 0.0, "b": 0.0, "c": 0.0}, replicate=0.0, image_arm=0.0, residual=0.0)
    assert {(one.place, one.best, one.worst) for one in asked(cells).values()} == {(2.0, 1, 3)}


def test_a_pair_without_common_replicates_leaves_its_order_open() -> None:
    cells = lost(lost(study({"a": 0.0, "b": 0.2, "c": 0.4}, count=7), 0, [0, 1, 2]), 1, [4, 5, 6])
    found = asked(cells)
    assert (found["a"].replicates, found["c"].replicates, found["a"].declared) == (1, 4, 7)
    assert (found["c"].best, found["c"].worst) == (1, 1)
    assert (found["a"].best, found["a"].worst) == (found["b"].best, found["b"].worst) == (2, 3)


def test_an_arm_without_scores_is_not_ranked() -> None:
    assert set(asked(lost(study({"a": 0.0, "b": 0.2, "c": 0.4}), 0, [0, 1, 2, 3, 4]))) == {"b", "c"}


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (study({"a": 0.0}), "there are 1"),
        (study({"a": 0.0, "b": 0.0}, count=2), "only 2 replicates completed"),
        (study({f"a{i}": 0.0 for i in range(MOST + 1)}, count=3), f"there are {MOST + 1}"),
    ],
    ids=["one arm", "two replicates", "too many arms"],
)
def test_ranks_without_a_difference_are_refused(cells: Cells, found: str) -> None:
    refused = ranks(cells)
    assert isinstance(refused, Refused)
    assert found in refused.value


@pytest.mark.parametrize(
    "name",
    [
        "5 replicates, 3 sets",
        "5, 12 sets, replicates dominate",
        "5, 3 sets, images dominate",
        "5, 3 sets, two equal ahead of five",
    ],
)
def test_equal_arms_are_seldom_told_apart(name: str) -> None:
    """At most 5 % within three standard errors, on 1,000 studies whose data sets judge the same trained models."""
    rates = ranked(RANKED[name], 1000, np.random.default_rng(5))
    assert rates["ranked"].hits / 1000 <= ALPHA + 3.0 * math.sqrt(ALPHA * (1.0 - ALPHA) / 1000)


def test_friedman_over_data_sets_tells_equal_arms_apart() -> None:
    """Why there is none: its blocks, the data sets, share the luck of the trained models."""
    rates = ranked(RANKED["5, 12 sets, replicates dominate"], 300, np.random.default_rng(5))
    assert rates["friedman"].interval()[0] > 0.5
    assert (
        ranked(RANKED["5 replicates, 3 sets"], 300, np.random.default_rng(5))["friedman_untrained"].interval()[0] > 0.3
    )


def test_a_report_ranks_by_the_very_numbers_that_are_measured() -> None:
    setting = RANKED["5, 3 sets, two equal ahead of five"]
    cells = simulate(setting.truth, np.random.default_rng(9))
    found = asked(cells)
    p = adjust(np.array([effect(cells, contrast, None, np.random.default_rng(0)).p for contrast in PAIRS]))
    shown = {frozenset(contrast.weights) for contrast, value in zip(PAIRS, p, strict=True) if value <= ALPHA}
    for arm, one in found.items():
        assert one.worst - one.best == 6 - sum(arm in pair for pair in shown)
