"""What an ablation is, what it says of itself, and what it refuses when it is declared."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from harness.designs import AddOneIn, Change, Design, Factorial, Levels, setting
from harness.errors import UnknownName
from harness.experiments import declarations
from harness.experiments.ablation import Ablation
from harness.experiments.question import ablation_question, comparison
from harness.experiments.replicates import Replicates, grid, replicates
from harness.stats.scores import Contrast, Pair, continued
from sam2lora.choice import from_json, to_json
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import Drive, Rite, Synthetic
from sam2lora.defaults import BASE
from sam2lora.errors import OverlapError
from sam2lora.losses import BCE, SoftDice
from sam2lora.protocols import Transfer

NAMES = declarations.names("ablations")
PAIR = Factorial({"bce": BCE(), "dice": SoftDice()})


def ablation(design: Design = PAIR, repeated: Replicates | None = None, **more: Any) -> Ablation:
    named = {"primary": "dice", "smallest_of_interest": 0.01, **more}
    return Ablation(named.pop("base", BASE), design, repeated or replicates(3), **named)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_ablation_asks_a_question_that_json_can_hold(name: str) -> None:
    declaration = declarations.ablation(name)
    assert declarations.question_of(name, "ablations").endswith("?")
    told = ablation_question(name, declaration, {"data": "1"})
    assert json.loads(json.dumps(told)) == told
    assert len(declaration.replicates.all()) >= 3
    for contrast in declaration.contrasts:
        Contrast(contrast.name, contrast.weights).vector(list(declaration.settings))


@pytest.mark.parametrize("name", NAMES)
def test_an_arm_holds_what_differs_and_nothing_else(name: str) -> None:
    declaration = declarations.ablation(name)
    for arm in declaration.arms:
        config = declaration.settings[arm.name]
        assert arm.of(declaration.base) == config
        assert from_json(TrialConfig, to_json(config)) == config
        assert (str(arm) == "the base") == (config == declaration.base)


def test_the_shipped_ablations_are_there() -> None:
    assert {"loss_components", "loss_mixture", "placement", "rank", "optimizer_basics"} <= set(NAMES)


def test_an_unknown_ablation_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no ablation named 'loss_component'.*Did you mean 'loss_components'"):
        declarations.ablation("loss_component")


def test_differences_are_shown_as_paths() -> None:
    design = Levels(("clip_norm",), {"one": setting(clip_norm=1.0), "ten": setting(clip_norm=10.0)}, reference="one")
    assert [str(arm) for arm in ablation(design).arms] == ["the base", "clip_norm = 10.0"]
    assert comparison(ablation(design))["arms"] == {"one": {}, "ten": {"clip_norm": 10.0}}


def test_replicates_have_a_seed_of_their_own_and_folds_in_turn() -> None:
    drawn = replicates(7).all()
    assert [one.seed for one in drawn] == list(range(7))
    assert [one.fold for one in drawn] == [0, 1, 2, 3, 4, 0, 1]


def test_a_grid_has_every_seed_with_every_fold_and_grows_by_seeds() -> None:
    drawn = grid(seeds=3, folds=2).all()
    assert set(drawn) == {Replicate(seed=seed, fold=fold) for seed in range(3) for fold in (0, 1)}  # type: ignore[arg-type]
    grown = ablation(repeated=grid(seeds=3, folds=2)).repeated(8).replicates.all()
    assert grown[:6] == drawn
    assert {one.seed for one in grown[6:]} == {3}


@pytest.mark.parametrize(
    "sequence", [replicates(12), grid(seeds=6, folds=3), grid(seeds=12, folds=1), grid(seeds=4, folds=5)]
)
@pytest.mark.parametrize("begun", [5, 6, 7, 10])
def test_a_forecast_goes_on_with_the_replicates_that_would_be_added(sequence: Replicates, begun: int) -> None:
    drawn = [Pair(one.seed, one.fold) for one in sequence.all()]
    assert continued(drawn[:begun], len(drawn) - begun) == tuple(drawn[begun:])


def test_fewer_replicates_are_the_first_of_more() -> None:
    assert ablation(repeated=replicates(5)).repeated(3).replicates.all() == replicates(5).all()[:3]


def same(config: TrialConfig) -> TrialConfig:
    return config


def other_targets(config: TrialConfig) -> TrialConfig:
    return replace(config, protocol=replace(config.protocol, targets=()))


def levels(**named: Change) -> Levels:
    return Levels(("clip_norm", "protocol"), named, reference=next(iter(named)))


@pytest.mark.parametrize(
    ("declare", "said"),
    [
        (
            lambda: ablation(levels(one=same, two=setting(clip_norm=5.0), three=setting(clip_norm=5.0))),
            "Arms must differ, but 'two' and 'three' have the same settings: leave one out",
        ),
        (
            lambda: ablation(levels(one=setting(clip_norm=5.0), two=setting(clip_norm=BASE.clip_norm))),
            "An arm must change something, but 'two' is the base",
        ),
        (lambda: ablation(AddOneIn({"nothing": same})), "'base' and 'with nothing' have the same settings"),
        (
            lambda: ablation(Levels(("schedule",), {"a": same, "b": setting(clip_norm=5.0)}, reference="a")),
            "An arm must change nothing but schedule, which its design declares, but 'b' changes clip_norm, too",
        ),
        (lambda: ablation(repeated=replicates(2)), "needs 3 seeds or more, but its 2 replicates have 2"),
        (lambda: ablation(repeated=grid(seeds=2, folds=5)), "needs 3 seeds or more, but its 10 replicates have 2"),
        (lambda: grid(seeds=3, folds=6), "There are 5 folds, but folds is 6"),
        (lambda: ablation(primary="dicee"), "not 'dicee': did you mean 'dice'"),
        (lambda: ablation(primary="elegance"), "choose one of dice, iou"),
        (lambda: ablation(primary="ece"), "one of which more is better, .* but of ECE less is better: choose dice"),
        (lambda: ablation(primary="hd95"), "of HD95 less is better, and its pixels differ between cameras"),
        (lambda: ablation(primary="assd"), "of ASSD less is better, and its pixels"),
        (lambda: ablation(smallest_of_interest=0.0), "must be a positive number in units of dice, but is 0.0"),
        (lambda: ablation(repeated=replicates(5), most=4), "most must be at least 5, the declared replicates"),
        (lambda: ablation(levels(one=same, two=other_targets)), "targets of 'two' are not those of 'one'"),
        (lambda: ablation(Factorial({"a/b": BCE(), "dice": SoftDice()})), "letter or a digit .*but is 'a/b'"),
    ],
)
def test_what_could_not_be_answered_is_refused(declare: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        declare()


def test_targets_that_overlap_sources_are_refused() -> None:
    with pytest.raises(OverlapError, match="share drive: leave one of the two out"):
        ablation(base=replace(BASE, protocol=Transfer(sources=(Drive(),), targets=(Rite(),))))
    alder = Synthetic(hospital="alder", images=8)
    with pytest.raises(OverlapError, match="share alder"):
        ablation(levels(one=same, two=setting(protocol=Transfer(sources=(alder,), targets=BASE.protocol.targets))))


def test_the_question_holds_what_changes_the_answer() -> None:
    base = ablation_question("x", ablation(), {"data": "1"})
    changed = [
        ablation_question("x", ablation(smallest_of_interest=0.02), {"data": "1"}),
        ablation_question("x", ablation(primary="iou"), {"data": "1"}),
        ablation_question("x", ablation(base=replace(BASE, epochs=99)), {"data": "1"}),
        ablation_question("x", ablation(Factorial({"bce": BCE(), "dice": SoftDice(smooth=2.0)})), {"data": "1"}),
        ablation_question("x", ablation(), {"data": "2"}),
    ]
    assert all(other != base for other in changed)
