"""What a command line asks for in words, and the settings that follow from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sam2lora.adapters import Full
from sam2lora.backbones import Nano, Sam2, UNet
from sam2lora.checkpoints import published_file
from sam2lora.datasets import DrishtiGS1, Drive, Idrid, Refuge1, Refuge2, Rite, Stare, Synthetic
from sam2lora.defaults import BASE
from sam2lora.errors import CheckpointError, DataError, OverlapError
from sam2lora.overrides import ProtocolOptions, parse_backbone, with_backbone
from sam2lora.protocols import FewShot, LeaveOneDatasetOut, PerDataset, Pooled, Protocol, Transfer

A, B, C = (Synthetic(hospital=hospital) for hospital in ("alder", "birch", "cedar"))
DECLARED = Transfer(sources=(A,), targets=(B, C))
TESTED = replace(DECLARED, target_images="test")
FEW = FewShot(sources=(A,), targets=(B,), shots=3)
DISCS = tuple(replace(hospital, target="disc") for hospital in (A, B, C))
LEFT = LeaveOneDatasetOut(datasets=(A, B, C), held_out="cedar", target_images="test")


def models(options: ProtocolOptions, declared: Protocol = DECLARED) -> list[Protocol]:
    return [model.apply(declared) for model in options.models(declared)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (ProtocolOptions(), [DECLARED]),
        (ProtocolOptions("transfer"), [DECLARED]),
        (ProtocolOptions("transfer", sources=(C,)), [Transfer(sources=(C,))]),
        (ProtocolOptions("transfer", targets=(C,)), [Transfer(sources=(A,), targets=(C,))]),
        (ProtocolOptions(sources=(C,)), [Transfer(sources=(C,))]),
        (ProtocolOptions("pooled", datasets=(B, C)), [Pooled(datasets=(B, C))]),
        (ProtocolOptions("pooled"), [Pooled(datasets=(A, B, C))]),
        (ProtocolOptions("per_dataset", datasets=(B,)), [PerDataset(datasets=(B,), dataset="birch")]),
        (
            ProtocolOptions("leave_one_dataset_out", datasets=(B, C)),
            [LeaveOneDatasetOut(datasets=(B, C), held_out=name) for name in ("birch", "cedar")],
        ),
        (ProtocolOptions("few_shot", shots=2), [FewShot(sources=(A,), targets=(B, C), shots=2)]),
        (ProtocolOptions("few_shot", sources=(), targets=(C,), shots=2), [FewShot(targets=(C,), shots=2)]),
    ],
)
def test_the_models_of_a_command_line(options: ProtocolOptions, expected: list[Protocol]) -> None:
    assert models(options) == expected


@pytest.mark.parametrize(
    ("options", "declared", "expected"),
    [
        (ProtocolOptions(targets=(C,)), TESTED, replace(TESTED, targets=(C,))),
        (ProtocolOptions("transfer", sources=(B,)), TESTED, replace(TESTED, sources=(B,), targets=())),
        (ProtocolOptions(sources=(C,), targets=(B,)), FEW, replace(FEW, sources=(C,))),
        (ProtocolOptions(shots=1), FEW, replace(FEW, shots=1)),
        (ProtocolOptions("few_shot", targets=(C,)), FEW, replace(FEW, targets=(C,))),
        (ProtocolOptions(datasets=(A, C)), LEFT, replace(LEFT, datasets=(A, C))),
        (ProtocolOptions(held_out="alder"), LEFT, replace(LEFT, held_out="alder")),
        (
            ProtocolOptions(structure="disc"),
            LEFT,
            replace(LEFT, datasets=tuple(replace(s, target="disc") for s in (A, B, C))),
        ),
    ],
)
def test_what_is_not_named_stays_as_declared(options: ProtocolOptions, declared: Protocol, expected: Protocol) -> None:
    assert models(options, declared) == [expected]


def test_a_structure_reaches_the_data_sets_of_every_model() -> None:
    found = models(ProtocolOptions("leave_one_dataset_out", structure="disc"))
    assert {dataset.target for model in found for dataset in (*model.sources, *model.targets)} == {"disc"}
    assert [model.targets[0].name for model in found] == ["alder", "birch", "cedar"]


@pytest.mark.parametrize(
    ("options", "declared", "message"),
    [
        (
            ProtocolOptions("pooled", sources=(A,)),
            DECLARED,
            "Protocol pooled takes --datasets, but --sources was given",
        ),
        (
            ProtocolOptions("few_shot", datasets=(A,), shots=1),
            DECLARED,
            "takes --sources, --targets, --shots, but",
        ),
        (ProtocolOptions("pooled", shots=3), DECLARED, "takes --datasets, but --shots was given"),
        (ProtocolOptions(datasets=(A,)), DECLARED, "Protocol transfer takes --sources, --targets, but --datasets"),
        (ProtocolOptions(sources=(C,)), Pooled(datasets=(A, B)), "Protocol pooled takes --datasets, but --sources"),
        (ProtocolOptions("few_shot"), DECLARED, "but --shots is missing: add it"),
        (
            ProtocolOptions("few_shot", sources=(A,), shots=1),
            DECLARED,
            "but --targets lists 0 where 1 or more are needed: add more",
        ),
        (
            ProtocolOptions("pooled", datasets=()),
            DECLARED,
            "but --datasets lists 0 where 1 or more are needed",
        ),
        (
            ProtocolOptions("per_dataset", datasets=()),
            DECLARED,
            "but --datasets lists 0 where 1 or more are needed",
        ),
        (
            ProtocolOptions("leave_one_dataset_out", datasets=(A,)),
            DECLARED,
            "but --datasets lists 1 where 2 or more are needed: add more",
        ),
        (ProtocolOptions(datasets=(A, B)), LEFT, "held_out must be the name of one of the data sets, but is 'cedar'"),
    ],
)
def test_what_belongs_to_another_protocol_or_is_missing_is_refused(
    options: ProtocolOptions, declared: Protocol, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        models(options, declared)


@pytest.mark.parametrize("kind", ["pooled", "leave_one_dataset_out"])
def test_partners_are_refused_before_anything_runs(kind: str) -> None:
    with pytest.raises(OverlapError, match="'drive' and 'rite' share drive"):
        models(ProtocolOptions(kind, datasets=(Drive(), Stare(), Rite())))


def test_two_sources_of_one_pool_of_patients_are_refused() -> None:
    with pytest.raises(OverlapError, match=r"'refuge1' and 'refuge2' share refuge.*: leave one of the two out"):
        models(ProtocolOptions(sources=(Refuge1(), Refuge2())))


def test_sets_without_the_structure_are_refused() -> None:
    with pytest.raises(DataError, match="cup"):
        models(ProtocolOptions("pooled", datasets=(DrishtiGS1(), Idrid()), structure="cup"))


def test_a_published_model_brings_the_digest_of_its_file() -> None:
    for name, model in (("tiny", Sam2(size="tiny")), ("large@2.0", Sam2(size="large", version="2.0"))):
        assert parse_backbone(name, None) == replace(model, checkpoint=published_file(model).sha256)
        assert parse_backbone(name, "random") == model
    assert parse_backbone("nano", None) == Nano()
    assert parse_backbone("unet:resnet34", None) == UNet(encoder="resnet34")


def test_a_checkpoint_must_be_a_file_that_the_backbone_can_have() -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pt is not: check the path"):
        parse_backbone("tiny", "nowhere.pt")
    with pytest.raises(CheckpointError, match="nano comes with its weights"):
        parse_backbone("nano", "nowhere.pt")


def test_a_unet_is_trained_whole() -> None:
    assert with_backbone(BASE, UNet()).adapters == (Full(),)
    assert with_backbone(BASE, Sam2(size="tiny")).adapters == BASE.adapters
