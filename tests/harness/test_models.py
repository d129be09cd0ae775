"""What a command line says of the protocol, and the studies that follow from it."""

from __future__ import annotations

from typing import Any

import pytest

from harness.models import Asked, study_name
from harness.study import Overrides
from sam2lora.config import TrialConfig
from sam2lora.datasets import DrishtiGS1, Drive, Idrid, Rite, Stare, Synthetic
from sam2lora.errors import DataError, OverlapError
from sam2lora.protocols import FewShot, LeaveOneDatasetOut, PerDataset, Pooled, Transfer

A, B, C = (Synthetic(hospital=hospital) for hospital in ("alder", "birch", "cedar"))
DECLARED = Transfer(sources=(A,), targets=(B, C))


@pytest.mark.parametrize(
    ("asked", "models"),
    [
        (Asked("transfer", sources=(C,)), [Transfer(sources=(C,))]),
        (Asked("transfer"), [DECLARED]),
        (Asked("transfer", targets=(C,)), [Transfer(sources=(A,), targets=(C,))]),
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
def test_the_models_of_a_command_line(asked: Asked, models: list[Any]) -> None:
    assert list(asked.models(DECLARED)) == models


def test_a_structure_reaches_the_data_sets_and_the_names_of_the_models() -> None:
    models = Asked("leave_one_dataset_out", structure="disc").models(DECLARED)
    assert {dataset.target for model in models for dataset in (*model.sources, *model.targets)} == {"disc"}
    assert [study_name("s", model) for model in models] == [f"s/held_out={model.targets[0].name}" for model in models]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked("pooled", sources=(A,)), "of pooled are named by --datasets, but --sources was given"),
        (Asked("few_shot", datasets=(A,), shots=1), "named by --sources and --targets, but --datasets was given"),
        (Asked("few_shot"), "few_shot needs --shots"),
        (Asked("few_shot", sources=(A,), shots=1), "name it by --targets"),
        (Asked("pooled", shots=3), "--shots belongs to few_shot, but the protocol is pooled"),
        (Asked("pooled", datasets=()), "--datasets must name data sets"),
        (Asked("leave_one_dataset_out", datasets=(A,)), "needs two sets or more, but has alder"),
    ],
)
def test_what_belongs_to_another_protocol_is_refused(asked: Asked, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        asked.models(DECLARED)


@pytest.mark.parametrize("kind", ["pooled", "leave_one_dataset_out"])
def test_partners_are_refused_before_anything_runs(kind: str) -> None:
    with pytest.raises(OverlapError, match="'drive' and 'rite' share drive"):
        Asked(kind, datasets=(Drive(), Stare(), Rite())).models(DECLARED)


def test_sets_without_the_structure_are_refused() -> None:
    with pytest.raises(DataError, match="cup"):
        Asked("pooled", datasets=(DrishtiGS1(), Idrid()), structure="cup").models(DECLARED)


def test_studies_of_one_protocol_have_names_of_their_own() -> None:
    asked = Asked("per_dataset").models(DECLARED)
    assert [study_name("s", model) for model in asked] == ["s/dataset=alder", "s/dataset=birch", "s/dataset=cedar"]
    assert study_name("s", DECLARED) == "s"


def test_a_named_protocol_replaces_the_declared_one(tiny: TrialConfig) -> None:
    model = Pooled(datasets=(A, B))
    assert Overrides(protocol=model, sources=(C,), structure="disc").apply(tiny).protocol == model


def test_sources_do_not_change_a_protocol_that_has_none(tiny: TrialConfig) -> None:
    pooled = Overrides(protocol=Pooled(datasets=(A, B))).apply(tiny)
    with pytest.raises(ValueError, match="the search declares pooled: name --protocol pooled"):
        Overrides(sources=(C,)).apply(pooled)
