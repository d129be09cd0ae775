from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import friedmanchisquare, norm, wilcoxon

from harness.inference.cells import Cells, Pair, Target
from harness.inference.ranks import CriticalDifference, Ranks, SignedRank, ranks, signed_rank
from harness.inference.refused import Refused


def cells(means: np.ndarray) -> Cells:
    """Cells with ``means (arms, data sets)``: two replicates and three images around each, which cancel in the mean."""
    arms, sets = means.shape
    around = np.array([[-1, 0, 1], [2, 0, -2]]) / 64
    targets = tuple(Target(f"set{t}", means[:, t, None, None] + around, np.array(["p", "q", "r"])) for t in range(sets))
    names = tuple(f"arm{a}" for a in range(arms))
    return Cells(names, (Pair(0, 0), Pair(1, 1)), targets, np.ones((arms, 2), dtype=bool))


def drawn(arms: int, sets: int, seed: int = 0, step: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 0.7 + 0.05 * rng.normal(size=(arms, sets)) + step * np.arange(arms)[:, None]


def asked(means: np.ndarray) -> Ranks:
    found = ranks(cells(means))
    assert isinstance(found, Ranks)
    return found


def test_friedman_and_wilcoxon_are_scipys_and_holm_steps_down() -> None:
    means = drawn(4, 12, step=0.03)
    found = asked(means)
    assert found.friedman_p == pytest.approx(friedmanchisquare(*means).pvalue, abs=1e-12)
    assert isinstance(found.wilcoxon, tuple)
    by_hand = sorted(wilcoxon(means[i], means[j]).pvalue for i in range(4) for j in range(i))
    assert sorted(pair.p for pair in found.wilcoxon) == pytest.approx(by_hand, abs=1e-12)
    holm = np.maximum.accumulate([min(1.0, p * (6 - i)) for i, p in enumerate(by_hand)])
    assert sorted(pair.holm_p for pair in found.wilcoxon) == pytest.approx(holm.tolist(), abs=1e-12)


def test_arms_come_best_first() -> None:
    found = asked(drawn(3, 10, step=0.3))
    assert found.arms == ("arm2", "arm1", "arm0")
    assert found.mean_ranks == (1.0, 2.0, 3.0)


def test_nemenyis_distance_is_that_of_the_tables() -> None:
    # q at 5 % for 2, 3 and 5 arms, as in table 5 of Demsar 2006
    for arms, q in ((2, 1.960), (3, 2.343), (5, 2.728)):
        found = asked(drawn(arms, 14))
        assert isinstance(found.nemenyi, CriticalDifference)
        assert found.nemenyi.distance == pytest.approx(q * math.sqrt(arms * (arms + 1) / (6 * 14)), abs=2e-3)
    assert norm.ppf(0.975) == pytest.approx(1.960, abs=1e-3)


def test_groups_join_arms_within_the_distance_and_no_group_lies_in_another() -> None:
    means = drawn(5, 20, seed=2, step=0.0)
    means[:2] += 1.0  # two arms far above three others
    found = asked(means)
    assert isinstance(found.nemenyi, CriticalDifference)
    assert {frozenset(group) for group in found.nemenyi.groups} == {
        frozenset({"arm0", "arm1"}),
        frozenset({"arm2", "arm3", "arm4"}),
    }


def test_five_data_sets_cannot_reach_five_per_cent_and_are_refused() -> None:
    better = drawn(2, 5)
    better[1] = better[0] + 0.2 + np.arange(5) / 100
    assert wilcoxon(better[0], better[1]).pvalue == 0.0625, "the most extreme outcome that five data sets have"
    pairs = asked(better).wilcoxon
    assert isinstance(pairs, Refused)
    assert pairs.found == "5 data sets reach p = 0.0625 at the least"
    answer = signed_rank(cells(better), "arm1", "arm0", 0.01, np.random.default_rng(0))
    assert isinstance(answer, Refused)
    assert answer.remedy.startswith("6 data sets are needed")
    assert not isinstance(asked(drawn(2, 6)).wilcoxon, Refused)


def test_holm_over_three_pairs_needs_more_data_sets_than_one_pair() -> None:
    assert isinstance(asked(drawn(3, 6)).wilcoxon, Refused)
    assert not isinstance(asked(drawn(3, 7)).wilcoxon, Refused)


def test_ranks_that_cannot_differ_by_the_critical_difference_are_refused() -> None:
    found = asked(drawn(3, 2))
    assert isinstance(found.nemenyi, Refused)
    assert isinstance(found.friedman_p, Refused)
    assert found.friedman_p.found.startswith("2 data sets and 3 arms reach p = 0.135")


@pytest.mark.parametrize(("arms", "sets"), [(3, 2), (3, 3), (4, 2), (7, 2), (8, 2), (4, 3)])
def test_friedman_is_refused_just_where_its_p_cannot_be_small_enough(arms: int, sets: int) -> None:
    """Ranks as alike as they can be, against scipy's own p; seven arms on two data sets reach 0.062."""
    alike = np.arange(arms)[:, None] / 8 + np.zeros((arms, sets))
    least, found = friedmanchisquare(*alike).pvalue, asked(alike).friedman_p
    if least > 0.05:
        assert isinstance(found, Refused)
        assert f"p = {least:.3g} at the least" in found.found
    else:
        assert found == pytest.approx(least)


def test_equal_arms_differ_in_nothing() -> None:
    found = asked(np.full((3, 8), 0.7))
    assert found.friedman_p == 1.0
    assert found.mean_ranks == (2.0, 2.0, 2.0)
    assert isinstance(found.wilcoxon, tuple)
    assert {pair.holm_p for pair in found.wilcoxon} == {1.0}


def test_ties_are_met_by_all_signs() -> None:
    means = np.stack([np.full(7, 0.5), 0.5 + np.array([1, 1, 1, 1, 1, 1, -1]) / 8])  # exact in binary, so ties are
    found = asked(means)
    assert isinstance(found.wilcoxon, tuple)
    # Seven equal ranks: as many signs as a coin thrown seven times shows one or fewer of a side, both sides.
    assert found.wilcoxon[0].p == pytest.approx(2 * (1 + 7) / 2**7)


def test_a_data_set_without_an_arm_is_left_out_by_name() -> None:
    made = cells(drawn(3, 9))
    made.targets[4].scores[1] = math.nan
    found = ranks(made)
    assert isinstance(found, Ranks)
    assert found.left_out == ("set4",)
    assert len(found.datasets) == 8


def test_nothing_to_rank_is_refused() -> None:
    made = cells(drawn(2, 3))
    for target in made.targets:
        target.scores[0] = math.nan
    assert isinstance(ranks(made), Refused)


def signed(means: np.ndarray, rope: float = 0.01, seed: int = 0) -> SignedRank:
    found = signed_rank(cells(means), "arm1", "arm0", rope, np.random.default_rng(seed))
    assert isinstance(found, SignedRank)
    return found


def test_the_signed_rank_names_the_better_arm_and_practical_equality() -> None:
    base = drawn(1, 10)[0]
    better = signed(np.stack([base, base + 0.1]))
    assert better.better > 0.99
    worse = signed(np.stack([base, base - 0.1]))
    assert worse.worse == pytest.approx(better.better, abs=0.01)
    equal = signed(np.stack([base, base + 0.001]))
    assert equal.equal > 0.99
    assert equal.better + equal.equal + equal.worse == pytest.approx(1.0)


def test_the_signed_rank_draws_from_its_generator_alone() -> None:
    means = drawn(2, 8, step=0.02)
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    one, two = signed(means, seed=3), signed(means, seed=3)
    assert one == two
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_arms_and_region_are_checked() -> None:
    with pytest.raises(ValueError, match=r"got \['gone'\]"):
        signed_rank(cells(drawn(2, 8)), "arm0", "gone", 0.01, np.random.default_rng(0))
    with pytest.raises(ValueError, match="wider than 0, but is 0"):
        signed_rank(cells(drawn(2, 8)), "arm0", "arm1", 0.0, np.random.default_rng(0))
