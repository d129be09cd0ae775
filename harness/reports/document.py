"""What a report says, apart from how it is written: sections of text, tables and figures.

Texts may hold two marks, which every writer understands: ``**strong**`` and ```code```.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

Tone = Literal["helps", "hurts", "perhaps_helps", "perhaps_hurts", "opposed", "average", "equal", "undecided"]
"""What a verdict looks like. ``perhaps_helps``: it does, perhaps too little to matter; ``opposed``: it helps here and
hurts there; ``average``: its mean is shown to be small; ``equal``: it is shown to be small everywhere; ``undecided`` is
not shown at all: no writer and no figure may draw two of them alike."""

_MARK = re.compile(r"\*\*(?P<strong>.+?)\*\*|`(?P<code>[^`]+)`")


@dataclass(frozen=True)
class Cell:
    """A table's cell: its text, whether it stands out, and the verdict it states, if any."""

    text: str
    bold: bool = False
    tone: Tone | None = None


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
    """What cannot be shown, and why: said where the figure or the table would stand."""

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
    """A figure; ``name`` is the stem of its files, ``caption`` says what to see in it."""

    name: str
    caption: str


Block = Text | Heading | Items | Refusal | Code | Table | Figure


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """A title and its sections. ``lead``: stands before the first heading."""

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


Mark = Literal["plain", "strong", "code"]


def marks(text: str) -> Iterator[tuple[Mark, str]]:
    """``text`` in pieces, each with its mark."""
    end = 0
    for found in _MARK.finditer(text):
        if found.start() > end:
            yield "plain", text[end : found.start()]
        strong = found.group("strong")
        yield ("strong", strong) if strong is not None else ("code", found.group("code"))
        end = found.end()
    if end < len(text):
        yield "plain", text[end:]


def row(*cells: str | Cell) -> tuple[Cell, ...]:
    """A row of a table; a string is a plain cell."""
    return tuple(Cell(cell) if isinstance(cell, str) else cell for cell in cells)
