"""What a run of the check found, as it grows: one JSON file, and the tables of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from benchmarks.gpu.lines import Broken, Law, Line, Measured, Skipped, from_json, table, to_json
from sam2lora.files import write_atomically

State = Literal["waiting", "running", "ended", "cut", "skipped", "broken"]


@dataclass
class Found:
    """What a part found so far.

    ``why`` it was cut, skipped or broke; ``printed``: the end of what its process printed; ``load``: clocks and
    utilisation of the device in the meantime.
    """

    title: str
    state: State = "waiting"
    why: str = ""
    printed: str = ""
    seconds: float = 0.0
    load: Mapping[str, list[float]] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)

    @property
    def reason(self) -> str:
        """The last line of ``why``, where a traceback has its error."""
        return self.why.strip().rpartition("\n")[2]

    @property
    def sound(self) -> bool:
        """Whether nothing broke and every law holds, as far as it ran."""
        bad = any(isinstance(line, Broken) or (isinstance(line, Law) and not line.holds) for line in self.lines)
        return self.state != "broken" and not bad


@dataclass
class Document:
    """``about``: the device, the machine, the form and the time of the run. ``parts`` by name, in their order."""

    about: dict[str, Any]
    parts: dict[str, Found]

    @property
    def sound(self) -> bool:
        """Whether nothing broke and every law holds, as far as it ran."""
        return all(found.sound for found in self.parts.values())

    def save(self, path: Path) -> None:
        """Write all that is known so far. A reader sees this state or the one before it."""
        parts = {
            name: {**asdict(found), "lines": [to_json(line) for line in found.lines]}
            for name, found in self.parts.items()
        }
        text = json.dumps({**self.about, "parts": parts}, indent=1) + "\n"
        write_atomically(path, lambda temporary: temporary.write_text(text))


def read(path: Path) -> Document:
    """The document that ``Document.save`` wrote, of a finished run or of one that was cut."""
    about = json.loads(path.read_text())
    parts = {
        name: Found(**{**part, "lines": [from_json(line) for line in part["lines"]]})
        for name, part in about.pop("parts").items()
    }
    return Document(about, parts)


def tables(document: Document) -> Iterator[RenderableType]:
    """The table of every part that found something, then one of all parts."""
    for name, found in document.parts.items():
        if found.lines:
            yield table(f"{name}: {found.title}", found.lines)
    yield summary(document)


def summary(document: Document) -> Table:
    """A row for each part: its state, how many laws hold, and how many cases were measured, skipped and broke."""
    made = Table("part", "state", "laws", "do not hold", "measured", "skipped", "broke", "seconds", "why")
    for name, found in document.parts.items():
        kinds = Counter(type(line) for line in found.lines)
        wrong = sum(isinstance(line, Law) and not line.holds for line in found.lines)
        made.add_row(
            name, found.state, str(kinds[Law]), f"[bold red]{wrong}[/]" if wrong else "0", str(kinds[Measured]),
            str(kinds[Skipped]), str(kinds[Broken]), f"{found.seconds:.0f}", escape(found.reason),
        )  # fmt: skip
    return made
