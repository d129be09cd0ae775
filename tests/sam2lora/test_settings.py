"""Settings from files and command lines: strict, and clear about what is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sam2lora.adapters import Full, LastBlocks, LoRA
from sam2lora.defaults import BASE
from sam2lora.errors import SettingError
from sam2lora.losses import BCE
from sam2lora.schedules import Constant
from sam2lora.settings import read_settings, with_assignments, write_settings
from sam2lora.weighted_loss import weighted


def test_settings_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(write_settings(BASE))
    assert read_settings(path) == BASE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Invalid JSON"),
        ("[]", "should be an object"),
        ("{}", r"protocol: Field required"),
        (write_settings(BASE).replace('"epochs": 6', '"epochs": "6"'), r"epochs: .*integer \(it is '6'\)"),
        (write_settings(BASE).replace('"epochs"', '"epoch"'), r"epoch: Unexpected keyword"),
    ],
)
def test_a_file_that_is_not_settings_is_refused_by_field(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(SettingError, match=message):
        read_settings(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="readable JSON file"):
        read_settings(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        ([], BASE),
        (["adapters.0.rank=16"], replace(BASE, adapters=(replace(BASE.adapters[0], rank=16),))),
        (["optimizer.lr=1e-3"], replace(BASE, optimizer=replace(BASE.optimizer, lr=1e-3))),
        (["clip_norm=null"], replace(BASE, clip_norm=None)),
        (["schedule=constant"], replace(BASE, schedule=Constant())),
        (["adapters=[]"], replace(BASE, adapters=())),
        (["adapters.0=full"], replace(BASE, adapters=(Full(),))),
        (["adapters.0.kind=lora"], BASE),
        (["adapters.0=full", "adapters.0=lora", "adapters.0.rank=3"], replace(BASE, adapters=(LoRA(rank=3),))),
        (["adapters.0.blocks=last", "adapters.0.blocks.count=2"],
         replace(BASE, adapters=(replace(BASE.adapters[0], blocks=LastBlocks(count=2)),))),
        (['loss={"terms": [{"loss": {"kind": "bce"}, "weight": 1.0}]}'], replace(BASE, loss=weighted({BCE(): 1.0}))),
        (["protocol.targets.1.hospital=gorse", "protocol.targets.1.hospital=birch"], BASE),
    ],
)  # fmt: skip
def test_an_assignment_changes_what_it_names(assignments: list[str], expected: object) -> None:
    assert with_assignments(BASE, assignments) == expected


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("adapters.0.rank", "has no '='"),
        ("adapters.0.rnk=3", r"adapters\.0 has .*no 'rnk': did you mean 'rank'"),
        ("optimiser.lr=3", "did you mean 'optimizer'"),
        ("epochs.x=3", "epochs is 6 and has none"),
        ("protocol.sources.2=drive", "no '2'"),
        ("adapters.0.rank=0", r"adapters\.0\.lora\.rank: .*greater than 0 \(it is 0\)"),
        ("adapters.0.rank=many", r"adapters\.0\.lora\.rank: .*integer \(it is 'many'\)"),
        ("adapters.0=nonsense", "nonsense"),
        ("optimizer.lr=NaN", "optimizer"),
        ("loss.terms.0.weight=0.9", "Weights must sum to 1"),
        ("prompt_dropout=0.5", r"(?m)^  prompt_dropout takes prompts away, but is 0\.5 .*or give a train_prompt\.$"),
    ],
)
def test_an_assignment_that_cannot_be_says_what_is_wrong(assignment: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        with_assignments(BASE, [assignment])


def test_values_that_only_fit_together_may_come_one_by_one() -> None:
    found = with_assignments(BASE, ["loss.terms.0.weight=0.5", "loss.terms.1.weight=0.25", "loss.terms.2.weight=0.25"])
    assert list(found.loss.weights.values()) == [0.5, 0.25, 0.25]
