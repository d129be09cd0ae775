"""The content of a report, apart from its rendering: sections of text, tables and figures.

Texts may hold two marks, which every writer understands: ``**strong**`` and ```code```.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pandas as pd

if TYPE_CHECKING:  # these take a second to load, and are needed only where a figure is drawn
    from matplotlib.figure import Figure as Plot
    from PIL.Image import Image

Tone = Literal["helps", "hurts", "perhaps_helps", "perhaps_hurts", "opposed", "average", "equal", "undecided"]
"""The appearance of a verdict, different for each in every rendering and figure. ``perhaps_helps``: helps, perhaps too
little to matter; ``opposed``: helps on some targets, hurts on others; ``average``: the mean effect is shown to be
small; ``equal``: the effect is shown to be small everywhere; ``undecided``: nothing is shown."""

_MARK = re.compile(r"\*\*(?P<strong>.+?)\*\*|`(?P<code>[^`]+)`")


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, whether it is bold, and the verdict that it states, if any."""

    text: str
    bold: bool = False
    tone: Tone | None = None


T = TypeVar("T")
Columns = Mapping[str, Callable[[T], str | Cell]]
"""The columns of a table from left to right: the header of each, and its cell in the row of an item."""
Record = Mapping[Any, Any]
"""A row of a data frame by column."""


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Heading:
    """A heading below a section's."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list of short texts."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Refusal:
    """What cannot be shown, and why, in place of the figure or table."""

    text: str


@dataclass(frozen=True)
class Code:
    """Lines to be typed or read as they are, in a ``language`` if that helps to show them."""

    text: str
    language: str = ""


@dataclass(frozen=True)
class Table:
    """A table; ``name`` is the stem of its files.

    ``frame``: the same numbers in full precision, for the CSV file, where the cells round them.
    """

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    frame: pd.DataFrame

    def __post_init__(self) -> None:
        if wrong := [len(row) for row in self.rows if len(row) != len(self.header)]:
            raise ValueError(f"Every row of {self.name} must have {len(self.header)} cells, but one has {wrong[0]}.")


@dataclass(frozen=True)
class Figure:
    """A figure; ``name`` is the stem of its files, ``caption`` says what to see in it, ``draw`` makes it."""

    name: str
    caption: str
    draw: Callable[[], Plot | Image]


Block = Text | Heading | Items | Refusal | Code | Table | Figure


@dataclass(frozen=True)
class Section:
    """A heading and the blocks below it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """A title and its sections. ``lead``: the blocks before the first heading."""

    title: str
    lead: tuple[Block, ...]
    sections: tuple[Section, ...] = field(default=())

    def blocks(self) -> Iterator[Block]:
        """Every block in the order of reading."""
        yield from self.lead
        for section in self.sections:
            yield from section.blocks

    def tables(self) -> list[Table]:
        """The tables, in order."""
        return [block for block in self.blocks() if isinstance(block, Table)]

    def figures(self) -> list[Figure]:
        """The figures, in order."""
        return [block for block in self.blocks() if isinstance(block, Figure)]


Mark = Literal["plain", "strong", "code"]


def marks(text: str) -> Iterator[tuple[Mark, str]]:
    """``text`` in pieces, each with its mark."""
    end = 0
    for mark in _MARK.finditer(text):
        if mark.start() > end:
            yield "plain", text[end : mark.start()]
        strong = mark.group("strong")
        yield ("strong", strong) if strong is not None else ("code", mark.group("code"))
        end = mark.end()
    if end < len(text):
        yield "plain", text[end:]


def table(name: str, caption: str, items: Iterable[T], columns: Columns[T], frame: pd.DataFrame) -> Table:
    """A table with a row for each of ``items``."""
    rows = tuple(row(*(cell(item) for cell in columns.values())) for item in items)
    return Table(name, caption, tuple(columns), rows, frame)


def plain_table(name: str, caption: str, frame: pd.DataFrame) -> Table:
    """A table that shows ``frame`` as it is."""
    rows = tuple(row(*map(str, line)) for line in frame.itertuples(index=False, name=None))
    return Table(name, caption, tuple(frame.columns), rows, frame)


def row(*cells: str | Cell) -> tuple[Cell, ...]:
    """A row of a table; a string is a plain cell."""
    return tuple(Cell(cell) if isinstance(cell, str) else cell for cell in cells)
