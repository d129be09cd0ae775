"""A field that a choice gets after a release keeps its default for ever, as the record beside this file has it."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

import harness
import sam2lora
from sam2lora.choice import Added, added_fields, choice, to_plain

RECORDED = Path(__file__).with_name("added_fields.txt")


def choices() -> Iterator[type[Any]]:
    """Every choice of both packages, settings of a trial and of an ablation included."""
    for package in (sam2lora, harness):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not info.name.endswith("__main__"):
                for cls in vars(importlib.import_module(info.name)).values():
                    if is_dataclass(cls) and isinstance(cls, type) and cls.__module__ == info.name:
                        yield cls


def lines(classes: Iterable[type[Any]]) -> list[str]:
    return [
        f"{cls.__qualname__}.{name} {release} {json.dumps(to_plain(default), sort_keys=True)}"
        for cls in classes
        if hasattr(cls, "__pydantic_fields__")
        for name, (release, default) in added_fields(cls).items()
    ]


@choice
class Grown:
    kind: Literal["grown"] = "grown"
    ranks: Annotated[tuple[int, ...], Added("0.2.0")] = (4, 8)


@pytest.mark.filterwarnings("ignore")  # of packages that are imported for the first time here
def test_the_default_of_an_added_field_never_changes() -> None:
    classes = list(choices())
    assert {"TrialConfig", "LoRA", "Replicate", "TPE"} <= {cls.__qualname__ for cls in classes}
    recorded = [line for line in RECORDED.read_text().splitlines() if not line.startswith("#")]
    assert sorted(lines(classes)) == sorted(recorded)


def test_the_record_names_release_and_default() -> None:
    assert lines([Grown]) == ["Grown.ranks 0.2.0 [4, 8]"]
