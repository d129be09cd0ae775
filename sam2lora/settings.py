"""Settings as people write them: a JSON file, and ``FIELD=VALUE`` on a command line."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sam2lora.choice import from_json, to_json, told, unlike
from sam2lora.config import TrialConfig
from sam2lora.errors import SettingError


def read_settings(path: Path) -> TrialConfig:
    """The settings of a JSON file, of which only the fields without a default have to be written.

    Raises ``SettingError`` for a file that cannot be read, an unknown field, or a value that a field does not take.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"Settings must be a readable JSON file, but {path} is not: {error}.") from error
    return parse_settings(text, str(path))


def parse_settings(text: str, where: str) -> TrialConfig:
    """The settings that ``text`` holds as JSON; ``where`` names it in a ``SettingError``."""
    try:
        return from_json(TrialConfig, text)
    except ValidationError as error:
        raise SettingError(
            f"Settings must be such that a trial can have them, but in {where}:\n{told(error)}"
        ) from error


def write_settings(config: TrialConfig) -> str:
    """The settings as JSON for people: every field, one a line, in alphabetical order. ``read_settings`` reads it."""
    return json.dumps(json.loads(to_json(config)), indent=2, sort_keys=True) + "\n"


def changed(config: TrialConfig, assignments: Sequence[str]) -> TrialConfig:
    """``config`` with assignments such as ``adapter.rank=16``, ``schedule=constant`` or ``loss.terms.0.weight=1.0``.

    A field is named by its path in the JSON form, places in a list by their number from 0. A value is JSON, or else
    text. A choice that is given the name of a kind, as in ``adapter=frozen`` or ``adapter.kind=frozen``, becomes that
    kind with its defaults, whose fields later assignments may change. Nothing is checked before the last assignment,
    so values that only fit together may be given one by one. Raises ``SettingError``.
    """
    plain = json.loads(to_json(config))
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise SettingError(f"A setting must be written FIELD=VALUE, but {assignment!r} has no '=': add it.")
        _assign(plain, path.strip().split("."), _value(text.strip()))
    return parse_settings(json.dumps(plain), " ".join(assignments))


def differences(base: TrialConfig, config: TrialConfig) -> dict[str, Any]:
    """What ``config`` has in place of ``base``: values by the paths that `changed` takes, which undoes it.

    A choice of another kind, and a list of another length or of other kinds, is one value, with all of its fields.
    """
    pairs = unlike(json.loads(to_json(base)), json.loads(to_json(config)))
    return {path: now for path, _, now in pairs}


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
    if isinstance(node, dict):
        if field == "kind" and node.get("kind") != value:
            node.clear()
        if isinstance(value, str) and isinstance(node.get(field), dict):
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
    # Right after its kind was set, a choice shows nothing else: what it takes is left to the last check.
    if part in known or (known == ["kind"] and len(path) > 1):
        return part if isinstance(node, dict) else int(part)
    near = difflib.get_close_matches(part, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}" if near else "choose one of them"
    owner = ".".join(path[:-1]) or "a trial"
    raise SettingError(
        f"A setting must be a field that exists, but {owner} has {', '.join(known)}, no {part!r}: {hint}."
    )
