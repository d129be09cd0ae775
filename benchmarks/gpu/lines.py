"""The lines of a part: what was measured, what held or did not, what was skipped and what broke."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.markup import escape
from rich.table import Table

Value = float | int | str | bool | None
Values = Mapping[str, Value]
"""Figures by name, each name with its unit: ``seconds``, ``MiB``, ``tiny 512 px``."""


@dataclass(frozen=True)
class Measured:
    """Figures of one case."""

    case: str
    values: Values


@dataclass(frozen=True)
class Law:
    """A statement that must be true on every device, whether it ``holds`` here, and the figures behind it."""

    case: str
    holds: bool
    values: Values = field(default_factory=dict)


@dataclass(frozen=True)
class Skipped:
    """A case that did not run, and why."""

    case: str
    why: str


@dataclass(frozen=True)
class Broken:
    """A case that ended with an error: its last line, and the traceback."""

    case: str
    error: str
    traceback: str


Line = Measured | Law | Skipped | Broken


def to_json(line: Line) -> dict[str, Any]:
    """``line`` as an object, with its kind."""
    return {"kind": type(line).__name__.lower(), **asdict(line)}


def from_json(value: Mapping[str, Any]) -> Line:
    """The line that ``to_json`` wrote."""
    kinds: dict[str, type[Line]] = {kind.__name__.lower(): kind for kind in (Measured, Law, Skipped, Broken)}
    return kinds[value["kind"]](**{name: part for name, part in value.items() if name != "kind"})


def table(title: str, lines: list[Line]) -> Table:
    """A row for each line: its case, its figures, and whether it holds or why there are none."""
    shown = [line for line in lines if isinstance(line, Measured | Law)]
    columns = list(dict.fromkeys(name for line in shown for name in line.values))
    made = Table("case", *columns, "", title=title, title_justify="left")
    for line in lines:
        values = line.values if isinstance(line, Measured | Law) else {}
        made.add_row(escape(line.case), *(_cell(values.get(name)) for name in columns), _state(line))
    return made


def _cell(value: Value) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float() if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e6):
            return f"{value:.1e}"
        case float():
            return f"{value:.4g}"
        case _:
            return escape(str(value))


def _state(line: Line) -> str:
    match line:
        case Measured():
            return ""
        case Law(holds=holds):
            return "holds" if holds else "[bold red]does not hold[/]"
        case Skipped(why=why):
            return f"skipped: {escape(why)}"
        case Broken(error=error):
            return f"[bold red]broke:[/] {escape(error)}"
