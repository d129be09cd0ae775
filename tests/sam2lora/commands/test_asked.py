"""What a command line asks for in words, and the settings that follow from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sam2lora.adapters import Full
from sam2lora.backbones import Nano, Sam2, UNet
from sam2lora.checkpoints import file_of
from sam2lora.commands.asked import Asked, backbone, on
from sam2lora.config import TrialConfig
from sam2lora.datasets import DrishtiGS1, Drive, Idrid, Refuge1, Refuge2, Rite, Stare, Synthetic
from sam2lora.errors import CheckpointError, DataError, OverlapError
from sam2lora.protocols import FewShot, LeaveOneDatasetOut, PerDataset, Pooled, Protocol, Transfer

A, B, C = (Synthetic(hospital=hospital) for hospital in ("alder", "birch", "cedar"))
DECLARED = Transfer(sources=(A,), targets=(B, C))
TESTED = replace(DECLARED, target_images="test")
FEW = FewShot(sources=(A,), targets=(B,), shots=3)
LEFT = LeaveOneDatasetOut(datasets=(A, B, C), held_out="cedar", target_images="test")


def models(asked: Asked, declared: Protocol = DECLARED) -> list[Protocol]:
    return [each.model(declared) for each in asked.each(declared)]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (Asked(), [DECLARED]),
        (Asked("transfer"), [DECLARED]),
        (Asked("transfer", sources=(C,)), [Transfer(sources=(C,))]),
        (Asked("transfer", targets=(C,)), [Transfer(sources=(A,), targets=(C,))]),
        (Asked(sources=(C,)), [Transfer(sources=(C,))]),
        (Asked("pooled", datasets=(B, C)), [Pooled(datasets=(B, C))]),
        (Asked("pooled"), [Pooled(datasets=(A, B, C))]),
        (Asked("per_dataset", datasets=(B,)), [PerDataset(datasets=(B,), dataset="birch")]),
        (
            Asked("leave_one_dataset_out", datasets=(B, C)),
            [LeaveOneDatasetOut(datasets=(B, C), held_out=name) for name in ("birch", "cedar")],
        ),
        (Asked("few_shot", shots=2), [FewShot(sources=(A,), targets=(B, C), shots=2)]),
        (Asked("few_shot", sources=(), targets=(C,), shots=2), [FewShot(targets=(C,), shots=2)]),
    ],
)
def test_the_models_of_a_command_line(asked: Asked, expected: list[Protocol]) -> None:
    assert models(asked) == expected


@pytest.mark.parametrize(
    ("asked", "declared", "expected"),
    [
        (Asked(targets=(C,)), TESTED, replace(TESTED, targets=(C,))),
        (Asked("transfer", sources=(B,)), TESTED, replace(TESTED, sources=(B,), targets=())),
        (Asked(sources=(C,), targets=(B,)), FEW, replace(FEW, sources=(C,))),
        (Asked(shots=1), FEW, replace(FEW, shots=1)),
        (Asked("few_shot", targets=(C,)), FEW, replace(FEW, targets=(C,))),
        (Asked(datasets=(A, C)), LEFT, replace(LEFT, datasets=(A, C))),
        (Asked(held_out="alder"), LEFT, replace(LEFT, held_out="alder")),
        (Asked(structure="disc"), LEFT, replace(LEFT, datasets=tuple(replace(s, target="disc") for s in (A, B, C)))),
    ],
)
def test_what_is_not_named_stays_as_declared(asked: Asked, declared: Protocol, expected: Protocol) -> None:
    assert models(asked, declared) == [expected]


def test_a_structure_reaches_the_data_sets_of_every_model() -> None:
    found = models(Asked("leave_one_dataset_out", structure="disc"))
    assert {dataset.target for model in found for dataset in (*model.sources, *model.targets)} == {"disc"}
    assert [model.targets[0].name for model in found] == ["alder", "birch", "cedar"]


@pytest.mark.parametrize(
    ("asked", "declared", "message"),
    [
        (Asked("pooled", sources=(A,)), DECLARED, "The protocol pooled is told by --datasets, but --sources was given"),
        (Asked("few_shot", datasets=(A,), shots=1), DECLARED, "by --sources, --targets, --shots, but --datasets was"),
        (Asked("pooled", shots=3), DECLARED, "told by --datasets, but --shots was given"),
        (Asked(datasets=(A,)), DECLARED, "The protocol transfer is told by --sources, --targets, but --datasets"),
        (Asked(sources=(C,)), Pooled(datasets=(A, B)), "The protocol pooled is told by --datasets, but --sources"),
        (Asked("few_shot"), DECLARED, "but --shots is left out: name it"),
        (
            Asked("few_shot", sources=(A,), shots=1),
            DECLARED,
            "but --targets names 0 where 1 or more are needed: name more",
        ),
        (Asked("pooled", datasets=()), DECLARED, "but --datasets names 0 where 1 or more are needed: name more"),
        (Asked("per_dataset", datasets=()), DECLARED, "but --datasets names 0 where 1 or more are needed: name more"),
        (
            Asked("leave_one_dataset_out", datasets=(A,)),
            DECLARED,
            "but --datasets names 1 where 2 or more are needed: name more",
        ),
        (Asked(datasets=(A, B)), LEFT, "held_out must be the name of one of the data sets, but is 'cedar'"),
    ],
)
def test_what_belongs_to_another_protocol_or_is_missing_is_refused(
    asked: Asked, declared: Protocol, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        models(asked, declared)


@pytest.mark.parametrize("kind", ["pooled", "leave_one_dataset_out"])
def test_partners_are_refused_before_anything_runs(kind: str) -> None:
    with pytest.raises(OverlapError, match="'drive' and 'rite' share drive"):
        models(Asked(kind, datasets=(Drive(), Stare(), Rite())))


def test_two_sources_of_one_pool_of_patients_are_refused() -> None:
    with pytest.raises(OverlapError, match=r"'refuge1' and 'refuge2' share refuge.*: leave one of the two out"):
        models(Asked(sources=(Refuge1(), Refuge2())))


def test_sets_without_the_structure_are_refused() -> None:
    with pytest.raises(DataError, match="cup"):
        models(Asked("pooled", datasets=(DrishtiGS1(), Idrid()), structure="cup"))


def test_a_published_model_brings_the_digest_of_its_file() -> None:
    for name, model in (("tiny", Sam2(size="tiny")), ("large@2.0", Sam2(size="large", version="2.0"))):
        assert backbone(name, None) == replace(model, checkpoint=file_of(model).sha256)
        assert backbone(name, "random") == model
    assert backbone("nano", None) == Nano()
    assert backbone("unet:resnet34", None) == UNet(encoder="resnet34")


def test_a_checkpoint_must_be_a_file_that_the_backbone_can_have() -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pt is not: check the path"):
        backbone("tiny", "nowhere.pt")
    with pytest.raises(CheckpointError, match="nano comes with weights of its own"):
        backbone("nano", "nowhere.pt")


def test_a_unet_is_trained_whole(tiny: TrialConfig) -> None:
    assert on(tiny, UNet()).adapter == Full()
    assert on(tiny, Sam2(size="tiny")).adapter == tiny.adapter
