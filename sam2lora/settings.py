"""Settings as people write them: as a JSON file, and as ``FIELD=VALUE`` on a command line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sam2lora.choice import describe, from_json, json_differences, to_plain
from sam2lora.config import TrialConfig
from sam2lora.errors import SettingError


def read_settings(path: Path) -> TrialConfig:
    """The settings in a JSON file, which needs only the fields that have no default.

    Raises ``SettingError`` for a file that cannot be read, an unknown field, or a value that a field does not take.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"Settings must be a readable JSON file, but {path} is not: {error}.") from error
    return parse_settings(text, str(path))


def parse_settings(text: str, where: str) -> TrialConfig:
    """The settings in the JSON text ``text``; a ``SettingError`` calls it ``where``."""
    try:
        return from_json(TrialConfig, text)
    except ValidationError as error:
        raise SettingError(
            f"Settings must be valid for a trial, but those of {where} are not:\n{describe(error)}"
        ) from error


def write_settings(config: TrialConfig) -> str:
    """The settings as JSON for people: every field, one a line, in alphabetical order. ``read_settings`` reads it."""
    return json.dumps(to_plain(config), indent=2, sort_keys=True) + "\n"


def with_assignments(config: TrialConfig, assignments: Sequence[str]) -> TrialConfig:
    """``config`` with assignments such as ``adapters.0.rank=16``, ``schedule=constant`` or ``loss.terms.0.weight=1.0``.

    A field is named by its path in the JSON form, places in a list by their number from 0. A value is JSON, or else
    text. Assigning the name of a kind, as in ``schedule=constant`` or ``schedule.kind=constant``, makes a choice
    that kind with its defaults, whose fields later assignments may change. Nothing is checked before the last
    assignment, so values that are only valid together may be assigned one by one. Raises ``SettingError``.
    """
    plain = to_plain(config)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise SettingError(f"A setting must be written FIELD=VALUE, but {assignment!r} has no '=': add it.")
        _assign(plain, path.strip().split("."), _value(text.strip()))
    return parse_settings(json.dumps(plain), " ".join(assignments))


def differences(base: TrialConfig, config: TrialConfig) -> dict[str, Any]:
    """The values of ``config`` that differ from ``base``, by the paths that `with_assignments` takes.

    A choice of another kind, and a list of another length or of other kinds, is one value, with all of its fields.
    """
    return {path: after for path, _, after in json_differences(to_plain(base), to_plain(config))}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _assign(plain: Any, path: Sequence[str], value: Any) -> None:
    node, field = plain, path[-1]
    for depth, part in enumerate(path[:-1], start=1):
        node = _inside(node, part, path[:depth])
    place = _place(node, field, path)
    if field == "kind" and isinstance(node, dict) and node.get("kind") != value:
        node.clear()
    inner = node.get(field) if isinstance(node, dict) else node[place]
    if isinstance(value, str) and isinstance(inner, dict):
        value = {"kind": value}
    node[place] = value


def _inside(node: Any, part: str, path: Sequence[str]) -> Any:
    inner = node[_place(node, part, path)]
    if not isinstance(inner, dict | list):
        raise SettingError(f"A setting must be a field that exists, but {'.'.join(path)} is {inner!r} and has none.")
    return inner


def _place(node: Any, part: str, path: Sequence[str]) -> Any:
    """``part`` as a key or an index of ``node``."""
    known = list(node) if isinstance(node, dict) else [str(index) for index in range(len(node))]
    # A choice whose kind was just set has no other field yet: the last check says what it takes.
    if part in known or (known == ["kind"] and len(path) > 1):
        return part if isinstance(node, dict) else int(part)
    near = difflib.get_close_matches(part, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}" if near else "choose one of them"
    owner = ".".join(path[:-1]) or "a trial"
    raise SettingError(
        f"A setting must be a field that exists, but {owner} has {', '.join(known) or 'nothing'}, no {part!r}: {hint}."
    )
