"""The contract of every choice of every family, found through the family's union: a new choice is run at once."""

from __future__ import annotations

import importlib
import json
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from sam2lora.choice import added_fields, digest, from_json, kinds, to_json
from sam2lora.datasets import Drive, Stare

FAMILIES = {
    "adapters": "Adapter",
    "augments": "Augment",
    "auxiliary": "Auxiliary",
    "backbones": "Backbone",
    "datasets": "Dataset",
    "decoders": "Decoder",
    "losses": "Loss",
    "optimizers": "Optimizer",
    "prompters": "Prompter",
    "prompts": "Prompt",
    "protocols": "Protocol",
    "schedules": "Schedule",
    "sharpness": "Sharpness",
    "thresholds": "Threshold",
}
# What has no default must be said: the smallest value of the choices that cannot be built without one.
NEEDED: dict[str, dict[str, Any]] = {
    "incomplete": {"dataset": Drive(), "missing": "skip"},
    "folder": {"path": "clinic"},
    "synthetic": {"hospital": "alder"},
    "transfer": {"sources": (Drive(),), "targets": ()},
    "pooled": {"datasets": (Drive(),)},
    "per_dataset": {"datasets": (Drive(),), "dataset": "drive"},
    "leave_one_dataset_out": {"datasets": (Drive(), Stare()), "held_out": "drive"},
    "few_shot": {"targets": (Drive(),), "shots": 1},
}


def union(family: str) -> Any:
    return getattr(importlib.import_module(f"sam2lora.{family}"), FAMILIES[family])


CHOICES = [
    pytest.param(union(family), kind(**NEEDED.get(name, {})), id=f"{family}-{name}")
    for family in FAMILIES
    for name, kind in kinds(union(family)).items()
]
every_choice = pytest.mark.parametrize(("family", "value"), CHOICES)
NEVER = [b"bytes", [], {}, object(), float("nan"), float("inf"), -float("inf"), (None,)]  # no setting is one of these
SOMETIMES = [None, "text", "", -1, 0, 3, 0.5, 1e300, True, ()]


def settings(value: Any) -> list[str]:
    return [field.name for field in fields(value) if field.name != "kind"]


@every_choice
def test_json_is_read_back_by_the_choice_and_by_its_family(family: Any, value: Any) -> None:
    text = to_json(value)
    assert from_json(type(value), text) == value
    assert TypeAdapter(family).validate_json(text) == value
    assert to_json(TypeAdapter(family).validate_json(text)) == text


@every_choice
def test_json_is_canonical_and_complete(family: Any, value: Any) -> None:
    text = to_json(value)
    plain = json.loads(text)
    assert text == json.dumps(plain, sort_keys=True, separators=(",", ":"))
    assert set(plain) == {field.name for field in fields(value)} - set(added_fields(type(value)))
    assert kinds(family)[plain["kind"]] is type(value)


@every_choice
def test_the_digest_is_that_of_the_value(family: Any, value: Any) -> None:
    copy = from_json(type(value), to_json(value))
    assert copy is not value
    assert digest(copy) == digest(value)
    assert hash(copy) == hash(value)


@every_choice
def test_an_unchanged_replacement_is_equal(family: Any, value: Any) -> None:
    assert replace(value) == value


@every_choice
def test_a_choice_is_frozen(family: Any, value: Any) -> None:
    with pytest.raises(FrozenInstanceError):
        value.kind = "other"


@every_choice
def test_an_unknown_field_is_refused(family: Any, value: Any) -> None:
    plain = json.loads(to_json(value)) | {"unknown": 1}
    with pytest.raises(ValidationError, match=r"unknown"):
        TypeAdapter(family).validate_json(json.dumps(plain))
    with pytest.raises((ValidationError, TypeError), match=r"unknown"):
        replace(value, unknown=1)


@every_choice
def test_another_kind_is_refused(family: Any, value: Any) -> None:
    with pytest.raises(ValidationError, match="kind"):
        replace(value, kind="no such kind")
    plain = json.loads(to_json(value)) | {"kind": "no such kind"}
    with pytest.raises(ValidationError, match="kind"):
        TypeAdapter(family).validate_json(json.dumps(plain))


@every_choice
def test_every_setting_refuses_what_it_cannot_be(family: Any, value: Any) -> None:
    for name in settings(value):
        for wrong in NEVER:
            with pytest.raises(ValidationError):
                replace(value, **{name: wrong})


@every_choice
def test_what_a_setting_accepts_is_read_back(family: Any, value: Any) -> None:
    for name in settings(value):
        for setting in SOMETIMES:
            try:
                changed = replace(value, **{name: setting})
            except ValidationError:
                continue
            assert getattr(changed, name) == setting
            assert TypeAdapter(family).validate_json(to_json(changed)) == changed
            assert (digest(changed) == digest(value)) == (changed == value)


@every_choice
def test_numbers_are_not_read_from_text(family: Any, value: Any) -> None:
    numbers = [name for name in settings(value) if isinstance(getattr(value, name), int | float)]
    for name in numbers:
        with pytest.raises(ValidationError):
            replace(value, **{name: str(getattr(value, name))})


@every_choice
def test_a_choice_says_what_it_is(family: Any, value: Any) -> None:
    assert len((type(value).__doc__ or "").split()) > 4
    assert not (type(value).__doc__ or "").startswith(type(value).__name__ + "(")  # what dataclass writes by itself


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_exports_its_union_and_every_choice(family: str) -> None:
    module = importlib.import_module(f"sam2lora.{family}")
    names = {kind.__name__ for kind in kinds(union(family)).values()} | {FAMILIES[family]}
    exported = set(getattr(module, "__all__", vars(module)))
    assert names <= exported


def test_no_two_choices_share_a_digest() -> None:
    values = [parameter.values[1] for parameter in CHOICES]
    assert len({digest(value) for value in values}) == len(values)
