"""Choices: frozen, strict values with one canonical JSON text and one digest.

A family is a folder, a choice is a file, and the union of the choices is the registry. Every choice of a family
carries a literal ``kind`` that names it in JSON::

    @choice
    class SoftDice:
        kind: Literal["soft_dice"] = "soft_dice"
        smooth: Annotated[float, Gt(0)] = 1.0

A value is checked where it is written: a wrong type, an unknown field, a NaN or a number out of range raises
``pydantic.ValidationError`` from the constructor and from ``dataclasses.replace`` alike.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, dataclass_transform, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

T = TypeVar("T")

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, validate_default=True)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def choice(cls: type[T]) -> type[T]:
    """Make ``cls`` a choice: frozen, keyword-only, strictly typed, without unknown fields and without NaN."""
    return cast("type[T]", dataclass(cls, frozen=True, kw_only=True, config=_STRICT))


def to_json(value: object) -> str:
    """The canonical JSON text of a choice: sorted keys, no spaces, every field written, defaults included."""
    plain = TypeAdapter(type(value)).dump_python(value, mode="json")
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def from_json(kind: type[T], text: str) -> T:
    """The value of type ``kind`` that ``to_json`` wrote. Raises ``pydantic.ValidationError`` on any other text."""
    return TypeAdapter(kind).validate_json(text)


def digest(*parts: object) -> str:
    """Sixteen hexadecimal digits that name ``parts``: choices by their canonical JSON, plain values by theirs."""
    texts = [_plain(part) for part in parts]
    return hashlib.sha256("\x00".join(texts).encode()).hexdigest()[:16]


def _plain(part: object) -> str:
    if hasattr(type(part), "__pydantic_validator__"):
        return to_json(part)
    return json.dumps(part, sort_keys=True, separators=(",", ":"), allow_nan=False)


def told(error: ValidationError) -> str:
    """What is wrong, one line a field: its path, the rule, and the value that broke it.

    Where fields do not go together, their choice says so itself, values included, and nothing is added.
    """
    lines = []
    for one in error.errors(include_url=False):
        path, value = ".".join(map(str, one["loc"])), repr(one["input"])
        shown = value if len(value) <= 60 else f"{value[:57]}..."
        together = one["type"] == "value_error" and isinstance(one["input"], dict)
        ending = "" if together or isinstance(one["input"], ArgsKwargs) else f" (it is {shown})"
        lines.append(f"  {path}{': ' if path else ''}{one['msg'].removeprefix('Value error, ')}{ending}")
    return "\n".join(lines)


def kinds(family: Any) -> dict[str, type[Any]]:
    """The choices of a family by ``kind``: ``{"bce": BCE, ...}``, in the order in which its union names them.

    ``family`` is ``A | B`` or, for a family of one, ``A``, each with or without ``Annotated[..., Field(...)]``.
    """
    union = get_args(family)[0] if get_origin(family) is Annotated else family
    members = get_args(union) if get_origin(union) in (Union, UnionType) else (union,)
    return {member.__dataclass_fields__["kind"].default: member for member in members}


def unlike(before: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON forms of a value differ: path, value before, value now, in the order of ``now``.

    A choice of another kind, and a list of another length or of other kinds, is one value, with all of its fields.
    """
    if before == now:
        return
    inner = f"{path}." if path else ""
    if isinstance(before, dict) and isinstance(now, dict) and _signature(before) == _signature(now):
        for name in now:
            yield from unlike(before[name], now[name], f"{inner}{name}")
    elif isinstance(before, list) and isinstance(now, list) and _shape(before) == _shape(now):
        for place, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from unlike(one, other, f"{inner}{place}")
    else:
        yield path, before, now


def _signature(value: dict[str, Any]) -> tuple[Any, set[str]]:
    return value.get("kind"), set(value)


def _shape(value: Any) -> Any:
    """The fields and kinds of a value, without its numbers and texts."""
    if isinstance(value, dict):
        return {name: inner if name == "kind" else _shape(inner) for name, inner in value.items()}
    return [_shape(inner) for inner in value] if isinstance(value, list) else None
