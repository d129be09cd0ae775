"""Choices: frozen, strict values with one canonical JSON text and one digest.

A family is a folder, a choice is a file, and the union of the choices is the registry. Every choice of a family
carries a literal ``kind`` that names it in JSON::

    @choice
    class SoftDice:
        kind: Literal["soft_dice"] = "soft_dice"
        smooth: Annotated[float, Gt(0)] = 1.0

A value is checked where it is written: a wrong type, an unknown field, a NaN or a number out of range raises
``pydantic.ValidationError`` from the constructor and from ``dataclasses.replace`` alike.

A choice may say what else of a trial it cannot go with: ``conflicts(config)`` yields a reason for each, a clause that
states rule, value and remedy. ``config`` is the ``TrialConfig``, which no family can import; it lists all of them.

A choice can grow. A field that joins it after a release is marked, and needs a default that never changes::

    base: Annotated[float, Gt(0), Added("0.2.0")] = 1.0

Keys of trials and recorded questions from before that release then stay valid, since the canonical text leaves the
field out while it has its default.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Final, TypeVar, Union, cast, dataclass_transform, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

T = TypeVar("T")

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, validate_default=True)


@dataclasses.dataclass(frozen=True)
class Added:
    """Marks a field of a choice that was added in ``release``, after the first one."""

    release: str


@dataclass_transform(frozen_default=True, kw_only_default=True)
def choice(cls: type[T]) -> type[T]:
    """Make ``cls`` a choice: frozen, keyword-only, strictly typed, without unknown fields and without NaN."""
    return cast("type[T]", dataclass(cls, frozen=True, kw_only=True, config=_STRICT))


def to_plain(value: object) -> Any:
    """The complete JSON form of a choice as dictionaries, lists and plain values: every field, defaults included."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def dotted(plain: Any, prefix: str = "", *, lists: bool = True) -> dict[str, Any]:
    """The values of ``plain``, a JSON form, by dotted names: ``optimizer.lr``; ``terms.0.weight`` in a list of objects.

    Other lists are values, and so is what is empty; without ``lists`` every list is one.
    """
    inner = plain
    if lists and isinstance(plain, list) and all(isinstance(item, Mapping) for item in plain):
        inner = dict(enumerate(plain))
    if not isinstance(inner, Mapping) or not inner:
        return {prefix.removesuffix("."): plain}
    parts = (dotted(part, f"{prefix}{name}.", lists=lists) for name, part in inner.items())
    return {name: value for part in parts for name, value in part.items()}


def to_json(value: object) -> str:
    """The canonical JSON text of a choice: sorted keys, no spaces, every field but added ones at their default."""
    return _canonical(_without_added_defaults(value, to_plain(value)))


def from_json(kind: type[T], text: str) -> T:
    """The value of type ``kind`` that ``to_json`` wrote. Raises ``pydantic.ValidationError`` on any other text."""
    return TypeAdapter(kind).validate_json(text)


def digest(*parts: object) -> str:
    """Sixteen hexadecimal digits that name ``parts``: choices by their canonical JSON, plain values by theirs."""
    texts = [to_json(part) if _is_choice(part) else _canonical(part) for part in parts]
    return hashlib.sha256("\x00".join(texts).encode()).hexdigest()[:16]


def added_fields(cls: type[Any]) -> Mapping[str, tuple[str, Any]]:
    """The fields of a choice that are marked `Added`, by name: the release that added each, and its default."""
    return {
        name: (mark.release, field.get_default(call_default_factory=True))
        for name, field in cls.__pydantic_fields__.items()
        for mark in field.metadata
        if isinstance(mark, Added)
    }


def _is_choice(value: object) -> bool:
    return hasattr(type(value), "__pydantic_validator__")


def _canonical(plain: object) -> str:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _without_added_defaults(value: Any, plain: Any) -> Any:
    """``plain``, the complete form of ``value``, without the added fields that have their default, at any depth."""
    if isinstance(value, tuple):
        return [_without_added_defaults(*pair) for pair in zip(value, plain, strict=True)]
    if not _is_choice(value):
        return plain
    added = added_fields(type(value))
    return {
        name: _without_added_defaults(getattr(value, name), part)
        for name, part in plain.items()
        if name not in added or getattr(value, name) != added[name][1]
    }


def describe(error: ValidationError) -> str:
    """What is wrong, one line per field: its path, the rule, and the value that broke it.

    A rule about several fields names their values itself, so nothing is appended to it.
    """
    lines = []
    for fault in error.errors(include_url=False):
        path, value = ".".join(map(str, fault["loc"])), repr(fault["input"])
        shown = value if len(value) <= 60 else f"{value[:57]}..."
        several = fault["type"] == "value_error" and isinstance(fault["input"], dict)
        ending = "" if several or isinstance(fault["input"], ArgsKwargs) else f" (it is {shown})"
        lines.append(f"  {path}{': ' if path else ''}{fault['msg'].removeprefix('Value error, ')}{ending}")
    return "\n".join(lines)


def kinds(family: Any) -> dict[str, type[Any]]:
    """The choices of a family by ``kind``: ``{"bce": BCE, ...}``, in the order in which its union names them.

    ``family`` is ``A | B`` or, for a family of one, ``A``, each with or without ``Annotated[..., Field(...)]``.
    """
    union = get_args(family)[0] if get_origin(family) is Annotated else family
    members = get_args(union) if get_origin(union) in (Union, UnionType) else (union,)
    return {member.__dataclass_fields__["kind"].default: member for member in members}


LEFT_OUT: Final = "default"
"""Stands for the value of an added field that one of two JSON forms leaves out."""


def json_differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON forms of a value differ: path, value before, value after, in the order of ``after``.

    A choice of another kind, and a list of another length or of other kinds, is one value, with all of its fields.
    """
    if before == after:
        return
    prefix = f"{path}." if path else ""
    if isinstance(before, dict) and isinstance(after, dict) and before.get("kind") == after.get("kind"):
        for name in {**after, **before}:
            yield from json_differences(before.get(name, LEFT_OUT), after.get(name, LEFT_OUT), f"{prefix}{name}")
    elif isinstance(before, list) and isinstance(after, list) and _alike(before, after):
        for place, pair in enumerate(zip(before, after, strict=True)):
            yield from json_differences(*pair, f"{prefix}{place}")
    else:
        yield path, before, after


def _alike(before: Any, after: Any) -> bool:
    """Whether two JSON forms hold choices of the same kinds in lists of the same lengths."""
    if isinstance(before, dict) and isinstance(after, dict):
        common = before.keys() & after.keys()
        return before.get("kind") == after.get("kind") and all(_alike(before[name], after[name]) for name in common)
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(_alike, before, after))
    return not isinstance(before, dict | list) and not isinstance(after, dict | list)
