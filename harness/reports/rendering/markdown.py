"""A document as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.reports.document import (
    Block,
    Cell,
    Code,
    Document,
    Figure,
    Heading,
    Items,
    Refusal,
    Section,
    Table,
    Text,
    Tone,
)

SIGNS: Mapping[Tone, str] = {
    "helps": "▲", "hurts": "▼", "perhaps_helps": "△", "perhaps_hurts": "▽", "opposed": "↕", "average": "≈",
    "equal": "=", "undecided": "?",
}  # fmt: skip
"""The sign of a verdict where there is no colour."""


def write(document: Document, pictures: Mapping[str, Path]) -> str:
    """The whole text. ``pictures``: the PNG file of every figure by name, in the folder of the text; a figure without
    one is left out."""
    parts = [f"# {document.title}", *(_block(block, pictures) for block in document.lead)]
    parts += [_section(section, pictures) for section in document.sections]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(section: Section, pictures: Mapping[str, Path]) -> str:
    return "\n\n".join([f"## {section.title}", *filter(None, (_block(block, pictures) for block in section.blocks))])


def _block(block: Block, pictures: Mapping[str, Path]) -> str:
    match block:
        case Text(text):
            return text
        case Heading(text):
            return f"### {text}"
        case Refusal(text):
            return f"> Not shown: {text}"
        case Items(texts):
            return "\n".join(f"- {text}" for text in texts)
        case Code(text, language):
            return f"```{language}\n{text}\n```"
        case Figure(name, caption, _):
            return f"![{caption}]({pictures[name].name})" if name in pictures else ""
        case Table():
            return _table(block)


def _table(table: Table) -> str:
    lines = grid(table.header, [tuple(map(cell, row)) for row in table.rows])
    return "\n".join([*lines, "", table.caption])


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table without a caption."""
    return [_line(line) for line in (header, ["---"] * len(header), *rows)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_escaped, cells)) + " |"


def cell(value: Cell) -> str:
    """A cell's text with its verdict's sign and its emphasis."""
    text = f"{SIGNS[value.tone]} {value.text}" if value.tone else value.text
    return f"**{text}**" if value.bold else text


def _escaped(text: str) -> str:
    """A bar would end the cell, so it is written as an entity."""
    return text.replace("|", "&#124;").replace("\n", " ")
