"""Designs: which arms there are, what differs, and that their contrasts estimate what they say."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from harness.designs import AddOneIn, Crossed, Design, Factorial, LeaveOneOut, Levels, Mixture, setting
from harness.experiments.ablation import Ablation
from harness.experiments.question import comparison
from harness.experiments.replicates import replicates
from harness.record.ablation_scores import RecordedAblation
from harness.reports.ablation.design import reference
from harness.stats.scores import Contrast
from sam2lora.adapters import LoRA
from sam2lora.defaults import BASE
from sam2lora.losses import BCE, ClDice, Focal, FocalTversky, Loss, SoftDice
from sam2lora.schedules import Constant
from sam2lora.weighted_loss import equal

LOSSES: dict[str, Loss] = {"bce": BCE(), "dice": SoftDice(), "ft": FocalTversky()}
CHANGES = {"clip": setting(clip_norm=None), "constant": setting(schedule=Constant())}


def estimate(contrast: Contrast, scores: dict[str, float]) -> float:
    return sum(weight * scores[arm] for arm, weight in contrast.weights.items())


def test_a_factorial_of_losses_has_every_coalition_that_can_be_trained() -> None:
    arms = Factorial(LOSSES).arms(BASE)
    wanted = {"+".join(members) for n in (1, 2, 3) for members in combinations(LOSSES, n)}
    assert set(arms) == wanted
    assert arms["bce+ft"] == replace(BASE, loss=equal(BCE(), FocalTversky()))


def test_the_empty_coalition_trains_nothing() -> None:
    arms = Factorial(LOSSES, empty=True).arms(BASE)
    assert len(arms) == 8
    assert arms["empty"].adapters == ()


def test_a_factorial_of_changes_has_the_base() -> None:
    arms = Factorial(CHANGES).arms(BASE)
    assert arms == {
        "base": BASE,
        "clip": replace(BASE, clip_norm=None),
        "constant": replace(BASE, schedule=Constant()),
        "clip+constant": replace(BASE, clip_norm=None, schedule=Constant()),
    }


def test_a_mixed_factorial_needs_a_loss_in_every_arm() -> None:
    arms = Factorial({"bce": BCE(), "dice": SoftDice(), "clip": setting(clip_norm=None)}).arms(BASE)
    assert len(arms) == 6
    assert arms["bce+clip"] == replace(BASE, loss=equal(BCE()), clip_norm=None)


@pytest.mark.parametrize("empty", [False, True])
def test_main_effects_recover_additive_gains(empty: bool) -> None:
    gains = {"bce": 0.03, "dice": -0.01, "ft": 0.002}
    design = Factorial(LOSSES, empty=empty)
    scores = {name: 0.5 + sum(gains[part] for part in members) for name, members in design.coalitions().items()}
    if empty:
        scores["empty"] = 0.0  # an untrained model is no baseline for what a component adds to others
    found = {contrast.name: estimate(contrast, scores) for contrast in design.contrasts()}
    assert found == pytest.approx(gains)


def test_main_effects_of_changes_average_over_the_base_too() -> None:
    scores = {"base": 0.1, "clip": 0.2, "constant": 0.4, "clip+constant": 0.9}
    clip, constant = Factorial(CHANGES).contrasts()
    assert estimate(clip, scores) == pytest.approx(((0.2 - 0.1) + (0.9 - 0.4)) / 2)
    assert estimate(constant, scores) == pytest.approx(((0.4 - 0.1) + (0.9 - 0.2)) / 2)


def test_leave_one_out_compares_all_with_all_but_one() -> None:
    design = LeaveOneOut(LOSSES)
    arms = design.arms(BASE)
    assert set(arms) == {"all", "without bce", "without dice", "without ft"}
    assert arms["without dice"].loss == equal(BCE(), FocalTversky())
    assert [dict(contrast.weights) for contrast in design.contrasts()] == [
        {"all": 1.0, f"without {name}": -1.0} for name in LOSSES
    ]


def test_add_one_in_joins_the_losses_of_the_base() -> None:
    arms = AddOneIn({"cldice": ClDice(), "clip": setting(clip_norm=None)}).arms(BASE)
    assert arms["base"] == BASE
    assert arms["with cldice"].loss == equal(BCE(), SoftDice(), FocalTversky(), ClDice())
    assert arms["with clip"] == replace(BASE, clip_norm=None)


def test_add_one_in_refuses_a_base_of_unequal_weights() -> None:
    arms = Mixture(LOSSES, degree=3).arms(BASE)
    with pytest.raises(ValueError, match="A component joins losses of equal weight, but those of the base weigh"):
        AddOneIn({"cldice": ClDice()}).arms(arms["2 bce+dice"])


def ranks(**more: Any) -> Levels:
    levels = {f"rank {rank}": setting(adapters=(LoRA(rank=rank, alpha=2.0 * rank),), **more) for rank in (4, 8)}
    return Levels(factor=("adapters.0.rank", "adapters.0.alpha"), levels=levels, reference="rank 8")


def test_levels_are_compared_with_the_reference() -> None:
    (contrast,) = ranks().contrasts()
    assert (contrast.name, contrast.weights) == ("rank 4", {"rank 4": 1.0, "rank 8": -1.0})
    assert ranks().arms(BASE)["rank 4"].adapters[0] == LoRA(rank=4, alpha=8.0)


def test_a_level_that_changes_more_than_its_factor_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"nothing but adapters\.0\.rank, adapters\.0\.alpha.*'rank 4' changes clip_norm, too"
    ):
        ranks(clip_norm=None).arms(BASE)


def test_a_whole_field_covers_what_lies_inside_it() -> None:
    levels = {"lora": setting(adapters=(LoRA(rank=8, alpha=16.0),)), "frozen": setting(adapters=())}
    assert len(Levels(factor=("adapters",), levels=levels, reference="lora").arms(BASE)) == 2
    with pytest.raises(ValueError, match=r"changes adapters, too"):
        Levels(factor=("adapters.0.rank",), levels=levels, reference="lora").arms(BASE)


def crossed() -> Crossed:
    return Crossed(
        factor=("clip_norm", "schedule"),
        first={"clipped": setting(clip_norm=1.0), "free": setting(clip_norm=None)},
        second={"cosine": setting(schedule=BASE.schedule), "constant": setting(schedule=Constant())},
        reference=("clipped", "cosine"),
    )


def test_crossed_levels_are_averaged_over_the_other_factor() -> None:
    scores = {"clipped cosine": 0.1, "clipped constant": 0.3, "free cosine": 0.2, "free constant": 0.6}
    assert set(crossed().arms(BASE)) == set(scores)
    free, constant = crossed().contrasts()
    assert estimate(free, scores) == pytest.approx((0.2 + 0.6) / 2 - (0.1 + 0.3) / 2)
    assert estimate(constant, scores) == pytest.approx((0.3 + 0.6) / 2 - (0.1 + 0.2) / 2)


@pytest.mark.parametrize(
    ("design", "arm"),
    [
        (Factorial(LOSSES, empty=True), "bce+dice+ft"),
        (Factorial(CHANGES), "clip+constant"),
        (LeaveOneOut(LOSSES), "all"),
        (AddOneIn(CHANGES), "base"),
        (Levels(("clip_norm",), {"a": setting(clip_norm=3.0), "b": setting(clip_norm=2.0)}, reference="b"), "b"),
        (crossed(), "clipped cosine"),
        (Mixture(LOSSES), "bce+dice+ft"),
        (Mixture(LOSSES, degree=2), "bce"),
    ],
)
def test_the_arm_that_all_are_set_beside_is_the_one_that_a_design_names(design: Design, arm: str) -> None:
    """As a report reads it out of the record, whatever the base looks like."""
    ablation = Ablation(BASE, design, replicates(3), primary="dice", smallest_of_interest=0.01)
    recorded = json.loads(json.dumps(comparison(ablation)))
    arms = tuple(recorded["arms"])
    held = {name: tuple(one in own for one in arms) for name, own in recorded["components"].items()}
    declared = RecordedAblation(recorded["design"], arms, recorded["arms"], {}, (), held, (), "dice", 0.01, 0)
    assert reference(declared) == arm
    assert arm in arms


def test_a_simplex_centroid_has_every_subset_with_equal_weights() -> None:
    points = Mixture(LOSSES).points()
    assert len(points) == 7
    assert points["dice+ft"] == {"bce": 0.0, "dice": 0.5, "ft": 0.5}
    assert points["bce+dice+ft"] == pytest.approx({"bce": 1 / 3, "dice": 1 / 3, "ft": 1 / 3})


@pytest.mark.parametrize(("components", "degree", "count"), [(3, 2, 6), (3, 3, 10), (2, 4, 5), (4, 2, 10)])
def test_a_simplex_lattice_has_all_multiples(components: int, degree: int, count: int) -> None:
    losses = dict(list({**LOSSES, "focal": Focal()}.items())[:components])
    points = Mixture(losses, degree=degree).points().values()
    assert len(points) == count
    assert all(sum(point.values()) == pytest.approx(1) for point in points)
    assert all((np.array(list(point.values())) * degree % 1).round(9).sum() == 0 for point in points)


def test_inside_adds_the_centroid_and_the_points_half_way() -> None:
    points = Mixture(LOSSES, degree=2, inside=True).points()
    assert len(points) == 6 + 4
    assert points["4 bce+dice+ft"] == pytest.approx({"bce": 2 / 3, "dice": 1 / 6, "ft": 1 / 6})


@pytest.mark.parametrize("degree", [None, 3])
def test_a_mixture_that_is_linear_gains_nothing_and_one_that_is_not_gains_its_curvature(degree: int | None) -> None:
    design = Mixture(LOSSES, degree=degree)
    value = {"bce": 0.2, "dice": 0.5, "ft": 0.9}
    linear = {arm: sum(value[n] * w for n, w in weights.items()) for arm, weights in design.points().items()}
    assert [estimate(contrast, linear) for contrast in design.contrasts()] == pytest.approx([0, 0, 0, 0], abs=1e-12)
    bent = {arm: 4 * weights["bce"] * weights["dice"] for arm, weights in design.points().items()}
    first, *_ = design.contrasts()
    assert first.name == "bce with dice"
    assert estimate(first, bent) == pytest.approx(1 if degree is None else 8 / 9)


def test_membership_names_the_arms_that_have_a_component() -> None:
    assert Factorial(LOSSES, empty=True).membership()["dice"] == ["dice", "bce+dice", "dice+ft", "bce+dice+ft"]
    assert LeaveOneOut(LOSSES).membership()["dice"] == ["all", "without bce", "without ft"]
    assert AddOneIn({"cldice": ClDice()}).membership() == {"cldice": ["with cldice"]}


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (lambda: Factorial({"bce": BCE()}), "2 to 4 factors, but has 1: add some"),
        (lambda: Factorial({**LOSSES, "a": ClDice(), "b": Focal()}), "2 to 4 factors, but has 5"),
        (lambda: Factorial({"a": BCE(), "b": BCE()}), "Factors must differ"),
        (lambda: Factorial({"bce": BCE(), **CHANGES}, empty=True), "leave empty out"),
        (lambda: LeaveOneOut({"bce": BCE(), **CHANGES}), "leaving out the only component leaves none"),
        (lambda: Mixture(LOSSES, degree=1), "degree must be 2 or more, but is 1"),
        (lambda: setting(clip_nrom=1.0), "no 'clip_nrom': did you mean 'clip_norm'"),
        (lambda: Levels(factor=("loss",), levels={"a": setting()}, reference="a"), "two levels to compare"),
        (
            lambda: Levels(factor=("loss",), levels={"a": setting(), "b": setting()}, reference="c"),
            "one of the levels, but is 'c': choose one of a, b",
        ),
    ],
)
def test_what_is_no_design_is_refused(declare: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        declare()


def test_changes_of_one_setting_are_refused_as_two_factors() -> None:
    both: Design = Factorial({"none": setting(clip_norm=None), "ten": setting(clip_norm=10.0)})
    with pytest.raises(ValueError, match="'none' and 'ten' both change clip_norm"):
        both.arms(BASE)
    with pytest.raises(ValueError, match="both change loss"):
        Factorial({"bce": BCE(), "whole": setting(loss=equal(ClDice()))}).arms(BASE)
