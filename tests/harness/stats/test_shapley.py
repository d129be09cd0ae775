from __future__ import annotations

import math
from itertools import combinations, permutations

import numpy as np
import pytest

from harness.designs import Factorial
from harness.simulation.examples import loss_components
from harness.stats.effects import effect
from harness.stats.refusal import Refused
from harness.stats.scores import Cells, Contrast, Pair, Target
from harness.stats.shapley import Coalition, coalitions, interactions, main_effect, shapley_values, simple_effect
from sam2lora.losses import BCE, FocalTversky, SoftDice

NAMES = ("bce", "dice", "ft", "boundary")


def factorial(k: int, empty: bool = True) -> dict[Coalition, str]:
    sets = [frozenset(c) for size in range(0 if empty else 1, k + 1) for c in combinations(NAMES[:k], size)]
    return {one: "+".join(sorted(one)) or "none" for one in sets}


def game(arms: dict[Coalition, str], seed: int) -> dict[str, float]:
    return dict(zip(arms.values(), np.random.default_rng(seed).normal(size=len(arms)), strict=True))


def at(contrast: Contrast, scores: dict[str, float]) -> float:
    return sum(weight * scores[arm] for arm, weight in contrast.weights.items())


def values(arms: dict[Coalition, str], scores: dict[str, float]) -> dict[str, float]:
    found = shapley_values(arms)
    assert not isinstance(found, Refused)
    return {contrast.name: at(contrast, scores) for contrast in found}


def by_orders(arms: dict[Coalition, str], scores: dict[str, float]) -> dict[str, float]:
    """The definition: what each component adds when it comes, over all orders of coming."""
    names = sorted(frozenset().union(*arms))
    total = dict.fromkeys(names, 0.0)
    for order in permutations(names):
        for place, name in enumerate(order):
            before = frozenset(order[:place])
            total[name] += scores[arms[before | {name}]] - scores[arms[before]]
    return {name: value / math.factorial(len(names)) for name, value in total.items()}


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_shapley_values_are_the_mean_over_all_orders(k: int) -> None:
    arms = factorial(k)
    scores = game(arms, k)
    assert values(arms, scores) == pytest.approx(by_orders(arms, scores), abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_shapley_values_add_up_to_the_whole_gain_arm_by_arm(k: int) -> None:
    arms = factorial(k)
    found = shapley_values(arms)
    assert not isinstance(found, Refused)
    total = sum(contrast.vector(tuple(arms.values())) for contrast in found)
    expected = np.zeros(len(arms))
    expected[0], expected[-1] = -1.0, 1.0  # everything less nothing
    np.testing.assert_allclose(total, expected, atol=1e-12)


def test_components_that_add_the_same_to_every_coalition_are_worth_the_same() -> None:
    arms = factorial(4)
    by_size = np.random.default_rng(0).normal(size=(5, 3))
    # bce and dice may be swapped without a change; ft and boundary may not.
    scores = {arm: by_size[len(one & {"bce", "dice"}), 0] * (1 + ("ft" in one)) + ("boundary" in one)
              for one, arm in arms.items()}  # fmt: skip
    found = values(arms, scores)
    assert found["bce"] == pytest.approx(found["dice"], abs=1e-12)
    assert found["bce"] != pytest.approx(found["ft"], abs=1e-3)


def test_a_component_that_never_adds_anything_is_worth_nothing() -> None:
    arms = factorial(3)
    scores = {arm: len(one - {"ft"}) ** 2.0 for one, arm in arms.items()}
    assert values(arms, scores)["ft"] == pytest.approx(0.0, abs=1e-12)


def test_shapley_values_are_linear_in_the_scores() -> None:
    arms = factorial(3)
    one, other = game(arms, 1), game(arms, 2)
    both = {arm: 2.0 * one[arm] - 3.0 * other[arm] for arm in one}
    expected = {name: 2.0 * v - 3.0 * values(arms, other)[name] for name, v in values(arms, one).items()}
    assert values(arms, both) == pytest.approx(expected, abs=1e-12)


def given_training(arms: dict[Coalition, str], scores: dict[str, float]) -> dict[str, float]:
    """The definition: what each component adds when it comes second or later, over all orders of coming."""
    names = sorted(frozenset().union(*arms))
    added: dict[str, list[float]] = {name: [] for name in names}
    for order in permutations(names):
        for place, name in enumerate(order[1:], start=1):
            before = frozenset(order[:place])
            added[name].append(scores[arms[before | {name}]] - scores[arms[before]])
    return {name: float(np.mean(each)) for name, each in added.items()}


@pytest.mark.parametrize("k", [2, 3, 4])
def test_worth_given_training_is_the_mean_over_orders_without_their_first_place(k: int) -> None:
    arms = factorial(k, empty=False)
    scores = game(arms, k)
    assert values(arms, scores) == pytest.approx(given_training(arms, scores), abs=1e-12)


def test_a_component_of_no_effect_is_worth_nothing_whatever_training_brings() -> None:
    """With the untrained arm as a coalition it would get a third of what training brings."""
    arms = factorial(3)
    scores = {arm: (0.45 + 0.02 * ("dice" in one)) * bool(one) for one, arm in arms.items()}
    trained = {one: arm for one, arm in arms.items() if one}
    assert values(trained, scores) == pytest.approx({"bce": 0.0, "dice": 0.02, "ft": 0.0}, abs=1e-12)
    assert values(arms, scores)["bce"] == pytest.approx(0.45 / 3, abs=0.01)


def test_one_component_without_the_empty_coalition_has_no_worth() -> None:
    refused = shapley_values(factorial(1, empty=False))
    assert isinstance(refused, Refused)
    assert "2 or more components" in str(refused)


def test_a_main_effect_is_the_mean_of_simple_effects_by_their_coalitions() -> None:
    for empty, counts in ((True, (2, 2)), (False, (1, 2))):
        arms = factorial(3, empty)
        scores = game(arms, 5)
        without, beside = (at(simple_effect("bce", "ft", arms, present=has), scores) for has in (False, True))
        whole = (counts[0] * without + counts[1] * beside) / sum(counts)
        assert at(main_effect("bce", arms), scores) == pytest.approx(whole, abs=1e-12)


def test_a_main_effect_is_over_the_coalitions_that_are_given() -> None:
    """The empty one counts where it is there: with two components it is the mean of two gains, else of one."""
    scores = game(factorial(2), 3)
    whole, alone = (main_effect("dice", factorial(2, empty)) for empty in (True, False))
    second = scores["bce+dice"] - scores["bce"]
    assert at(alone, scores) == pytest.approx(second)
    assert at(whole, scores) == pytest.approx((second + scores["dice"] - scores["none"]) / 2)


def test_a_factorial_and_the_pretended_one_are_judged_by_it() -> None:
    losses = {"bce": BCE(), "soft_dice": SoftDice(), "focal_tversky": FocalTversky()}
    design = Factorial(losses, empty=True)
    declared = {contrast.name: dict(contrast.weights) for contrast in design.contrasts()}
    assert loss_components(3).ablation["contrasts"] == declared
    trained = {members: name for name, members in design.coalitions().items() if members}
    assert declared["bce"] == main_effect("bce", trained).weights


@pytest.mark.parametrize("empty", [True, False])
def test_an_additive_game_has_its_terms_as_main_effects_and_no_interaction(empty: bool) -> None:
    arms = factorial(3, empty)
    worth = {"bce": 0.3, "dice": -0.1, "ft": 0.05}
    scores = {arm: sum(worth[name] for name in one) for one, arm in arms.items()}
    pairs = interactions(arms)
    assert not isinstance(pairs, Refused)
    assert {name: at(main_effect(name, arms), scores) for name in worth} == pytest.approx(worth, abs=1e-12)
    assert {c.name: at(c, scores) for c in pairs} == pytest.approx(
        {"bce x dice": 0.0, "bce x ft": 0.0, "dice x ft": 0.0}, abs=1e-12
    )


@pytest.mark.parametrize(("k", "empty"), [(2, True), (3, True), (3, False), (4, True)])
def test_a_planted_interaction_is_found_and_only_that_one(k: int, empty: bool) -> None:
    arms = factorial(k, empty)
    scores = {arm: 0.2 * ({"bce", "dice"} <= one) + 0.1 * ("bce" in one) for one, arm in arms.items()}
    pairs = interactions(arms)
    assert not isinstance(pairs, Refused)
    found = {contrast.name: at(contrast, scores) for contrast in pairs}
    assert found.pop("bce x dice") == pytest.approx(0.2, abs=1e-12)
    assert all(value == pytest.approx(0.0, abs=1e-12) for value in found.values())


def test_two_components_without_the_empty_coalition_leave_nothing_to_say_on_their_interaction() -> None:
    refused = interactions(factorial(2, empty=False))
    assert isinstance(refused, Refused)
    assert "3 or more components" in str(refused)


def test_a_missing_coalition_is_named() -> None:
    arms = factorial(3)
    del arms[frozenset({"bce", "ft"})]
    refused = shapley_values(arms)
    assert isinstance(refused, Refused)
    assert "bce + ft" in refused.value
    with pytest.raises(ValueError, match=r"main effect of ft compares .* but no arm is bce \+ ft"):
        main_effect("ft", arms)
    with pytest.raises(ValueError, match="but all arms have it"):
        main_effect("ft", {frozenset({"ft"}): "ft"})


def test_pairs_that_are_trained_in_all_four_combinations_have_an_interaction_the_others_none() -> None:
    """Two losses and a change, which needs a loss to be trained: each loss with the change, beside the other loss."""
    sets = [frozenset(own) for size in (1, 2, 3) for own in combinations(("bce", "clip", "dice"), size)]
    arms = {own: "+".join(sorted(own)) for own in sets if own & {"bce", "dice"}}
    found = interactions(arms)
    assert not isinstance(found, Refused)
    assert [one.name for one in found] == ["bce x clip", "clip x dice"]
    assert found[0].weights == {"dice": 1.0, "bce+dice": -1.0, "clip+dice": -1.0, "bce+clip+dice": 1.0}
    out = {frozenset(NAMES[:3]): "all", **{frozenset(NAMES[:3]) - {name}: f"without {name}" for name in NAMES[:3]}}
    assert isinstance(interactions(out), Refused)


def test_arms_become_coalitions_of_the_components_they_hold() -> None:
    held = {"bce": ["b", "bd"], "dice": ["bd", "d"]}
    found = coalitions(held, ("b", "bd", "d", "frozen"))
    assert found == {
        frozenset({"bce"}): "b",
        frozenset({"bce", "dice"}): "bd",
        frozenset({"dice"}): "d",
        frozenset(): "frozen",
    }


def test_arms_that_cannot_be_coalitions_are_refused() -> None:
    with pytest.raises(ValueError, match="both have bce"):
        coalitions({"bce": ["b", "b2"]}, ("b", "b2"))
    with pytest.raises(ValueError, match=r"also name \['gone'\]"):
        coalitions({"bce": ["gone"]}, ("b",))


def test_their_intervals_are_those_of_every_contrast_and_the_values_add_up() -> None:
    arms = factorial(3)
    rng = np.random.default_rng(0)
    worth = {"bce": 0.02, "dice": 0.03, "ft": 0.0}
    true = np.array([0.7 + sum(worth[name] for name in one) for one in arms])
    scores = true[:, None, None] + rng.normal(0, 0.002, (8, 5, 1)) + rng.normal(0, 0.005, (8, 5, 12))
    cells = Cells(
        tuple(arms.values()),
        tuple(Pair(seed, seed) for seed in range(5)),
        (Target("drive", scores, np.array([f"p{i}" for i in range(12)])),),
        np.ones((8, 5), dtype=bool),
    )
    contrasts = shapley_values(arms)
    assert not isinstance(contrasts, Refused)
    found = {one.name: effect(cells, one, None, np.random.default_rng(0)) for one in contrasts}
    assert all(value.low < worth[name] < value.high for name, value in found.items())
    assert found["dice"].low > 0.0
    assert not found["ft"].low > 0.0
    mean = cells.means().mean(axis=(1, 2))
    assert sum(value.estimate for value in found.values()) == pytest.approx(mean[-1] - mean[0], abs=1e-12)
