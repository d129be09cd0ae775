"""Components that depend on each other are named where a main effect says too little of them, and nowhere else."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from harness.simulation.scores import Truth, simulate
from harness.stats.interplay import Interplay, crossed_pairings, interplays, pairings
from harness.stats.scores import Cells, Pair
from harness.stats.shapley import Coalition, main_effect

NAMES = ("bce", "dice", "ft")
ARMS: dict[Coalition, str] = {frozenset(own): "+".join(own) for size in (1, 2, 3) for own in combinations(NAMES, size)}
QUIET = {"replicate": 0.002, "image_arm": 0.002, "residual": 0.005}


def study(effects: dict[str, float], seed: int = 0, **sds: float) -> Cells:
    pairs = tuple(Pair(k, k) for k in range(5))
    truth = Truth(effects=effects, replicates=pairs, **(QUIET | sds))  # type: ignore[arg-type]
    return simulate(truth, np.random.default_rng(seed))


def found(effects: dict[str, float], seed: int = 0, **sds: float) -> tuple[Interplay, ...]:
    mains = {
        name: sum(weight * effects[arm] for arm, weight in main_effect(name, ARMS).weights.items()) for name in NAMES
    }
    return interplays(study(effects, seed, **sds), pairings(ARMS), mains, np.random.default_rng(1))


def test_two_components_that_do_each_other_s_work_are_named_with_what_each_adds_alone_and_beside_the_other() -> None:
    """Either brings .12, both together no more: main effects of .04 with an interaction of -.12."""
    effects = {arm: 0.12 * bool(own & {"dice", "ft"}) for own, arm in ARMS.items()}
    (pair,) = found(effects)
    assert (pair.one, pair.other) == ("dice", "ft")
    assert pair.interaction.estimate == pytest.approx(-0.12, abs=0.01)
    assert [one.contrast for one in pair.simple] == [
        "dice without ft",
        "dice with ft",
        "ft without dice",
        "ft with dice",
    ]
    assert [one.estimate for one in pair.simple] == pytest.approx([0.12, 0.0, 0.12, 0.0], abs=0.01)
    assert all(one.low < one.estimate < one.high for one in pair.simple)


def test_an_interaction_smaller_than_both_main_effects_is_no_caution() -> None:
    effects = {
        arm: 0.1 * ("dice" in own) + 0.1 * ("ft" in own) - 0.03 * ({"dice", "ft"} <= own) for own, arm in ARMS.items()
    }
    assert found(effects) == ()


def test_an_effect_that_turns_with_another_component_is_named_though_its_interaction_is_smaller_than_others() -> None:
    effects = {
        arm: 0.02 * ("dice" in own) + 0.2 * ("ft" in own) - 0.05 * ({"dice", "ft"} <= own) for own, arm in ARMS.items()
    }
    (pair,) = found(effects)
    assert pair.simple[0].estimate > 0.0 > pair.simple[1].estimate


def test_without_interactions_a_pair_is_named_in_at_most_a_twentieth_of_studies() -> None:
    effects = dict.fromkeys(ARMS.values(), 0.0)
    named = sum(bool(found(effects, seed, replicate=0.006, image_arm=0.01, residual=0.015)) for seed in range(100))
    assert named <= 10  # of 100: above that with a chance of 1 %


def test_levels_of_crossed_factors_are_compared_beside_both_levels_of_the_other() -> None:
    arms = {(one, other): f"{one} {other}" for one, other in product(("r8", "r64"), ("low", "high"))}
    effects = {"r8 low": 0.0, "r64 low": 0.1, "r8 high": 0.1, "r64 high": 0.0}
    among = crossed_pairings(arms, ("r8", "low"))
    (pair,) = interplays(study(effects), among, {"r64": 0.0, "high": 0.0}, np.random.default_rng(0))
    assert [one.contrast for one in pair.simple] == ["r64 with low", "r64 with high", "high with r8", "high with r64"]
    assert [one.estimate for one in pair.simple] == pytest.approx([0.1, -0.1, 0.1, -0.1], abs=0.01)
