"""Data sets as a command line writes them: ``NAME[:FIELD=VALUE]...``, for instance ``refuge1:target=cup``."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from sam2lora.datasets.incomplete import Incomplete
from sam2lora.datasets.pairs import Source, Target
from sam2lora.errors import DataError

S = TypeVar("S", bound=Source)


@dataclass(frozen=True)
class Named:
    """What a name stands for: a choice of the family, and the fields that the name itself decides.

    ``group``: among which others a list of names shows it.
    """

    kind: type[Any]
    decided: Mapping[str, Any] = field(default_factory=dict)
    group: str = "published"


def parse(text: str, names: Mapping[str, Named]) -> Any:
    """The data set that ``text`` means.

    Upper and lower case of the name are alike, and so are ``-`` and ``_``. A value is read as the type of its field
    demands. Raises ``DataError`` for a name, a field or a value that does not exist, with those that do and the
    nearest of them, for a field that is set twice, and for one that is needed and missing.
    """
    name, *settings = text.split(":")
    wanted = name.strip().lower().replace("-", "_")
    if wanted not in names:
        groups = dict.fromkeys(each.group for each in names.values())
        listed = {group: [name for name, each in names.items() if each.group == group] for group in groups}
        near = difflib.get_close_matches(wanted, list(names), n=1, cutoff=0.5)
        raise DataError(
            f"There is no data set {name!r}: {f'did you mean {near[0]!r}?' if near else 'choose one of these.'}\n"
            + "\n".join(f"  {group}: {', '.join(listed[group])}" for group in groups)
        )
    named = names[wanted]
    skips = _types(Incomplete, ("dataset",)) if named.group == "published" else {}
    types = _types(named.kind, named.decided) | skips
    values: dict[str, Any] = {}
    for setting in settings:
        key, value = _setting(text, wanted, setting, types)
        if key in values:
            raise DataError(f"A field must be set once, but {text!r} sets {key} again: name it once.")
        values[key] = value
    skipped = {key: value for key, value in values.items() if key in skips and value == "skip"}
    dataset = _built(text, named, {key: value for key, value in values.items() if key not in skips})
    return Incomplete(dataset=dataset, **skipped) if skipped else dataset


def _types(kind: type[Any], decided: Collection[str]) -> dict[str, Any]:
    """The fields of a choice that a command line may set, each with its type."""
    hints = get_type_hints(kind, include_extras=True)
    return {each.name: hints[each.name] for each in fields(kind) if each.name not in ("kind", *decided)}


def with_target(dataset: S, target: Target) -> S:
    """The same data set, read for another structure. Raises ``DataError`` when it holds none of that."""
    if dataset.target == target:
        return dataset
    choice: Any = dataset
    if isinstance(choice, Incomplete):
        rest: Any = replace(choice, dataset=with_target(choice.dataset, target))
        return cast("S", rest)
    free = any(each.name == "target" for each in fields(choice))
    offered = get_args(get_type_hints(type(dataset))["target"]) if free else (dataset.target,)
    if target not in offered:
        raise DataError(
            f"A data set must hold what is to be segmented, but {dataset.name!r} holds {' and '.join(offered)}, and "
            f"{target} was asked for: leave it out, or ask for another structure."
        )
    aimed_at: S = replace(choice, target=target)
    return aimed_at


def _setting(text: str, name: str, setting: str, types: Mapping[str, Any]) -> tuple[str, Any]:
    key, equals, value = (part.strip() for part in setting.partition("="))
    if not equals:
        raise DataError(f"A setting must be FIELD=VALUE, but {text!r} has {setting!r}: write NAME:FIELD=VALUE.")
    if key not in types:
        raise DataError(f"{name} has the fields {', '.join(types)}, but {text!r} sets {key!r}: {_nearest(key, types)}.")
    try:
        return key, TypeAdapter(types[key]).validate_strings(value)
    except ValidationError as error:
        rule, remedy = _rule(types[key], value, error)
        raise DataError(f"{key} of {name} must be {rule}, but {text!r} says {value!r}: {remedy}.") from error


def _rule(kind: Any, value: str, error: ValidationError) -> tuple[str, str]:
    """What a value must be and the remedy: a word of a list with the nearest, or what pydantic says of a number."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}", _nearest(value, get_args(kind))
    return f"another value ({error.errors()[0]['msg'].lower()})", "change it"


def _nearest(wanted: str, there: Iterable[str]) -> str:
    near = difflib.get_close_matches(wanted, list(there), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}" if near else "choose one of them"


def _built(text: str, named: Named, values: Mapping[str, Any]) -> Any:
    try:
        return named.kind(**named.decided, **values)
    except ValidationError as error:
        faults = [(".".join(map(str, fault["loc"])), fault["msg"]) for fault in error.errors()]
        said = "; ".join(f"{where}: {what.lower()}" if where else what.lower() for where, what in faults)
        raise DataError(
            f"A data set must be complete and consistent, but {text!r} is not ({said}): write NAME:FIELD=VALUE for "
            f"what is missing or wrong."
        ) from error
