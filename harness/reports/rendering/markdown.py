"""A document as Markdown."""

from __future__ import annotations

import re
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
    marks,
)

SIGNS: Mapping[Tone, str] = {
    "helps": "▲", "hurts": "▼", "perhaps_helps": "△", "perhaps_hurts": "▽", "opposed": "↕", "average": "≈",
    "equal": "=", "undecided": "?",
}  # fmt: skip
"""The sign of a verdict where there is no colour."""


def write(document: Document, pictures: Mapping[str, Path]) -> str:
    """The whole text. ``pictures``: the PNG file of every figure by name, in the folder of the text; a figure without
    one is left out."""
    parts = [f"# {literal(document.title)}", *(_block(block, pictures) for block in document.lead)]
    parts += [_section(section, pictures) for section in document.sections]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(section: Section, pictures: Mapping[str, Path]) -> str:
    return "\n\n".join(
        [f"## {literal(section.title)}", *filter(None, (_block(block, pictures) for block in section.blocks))]
    )


def _block(block: Block, pictures: Mapping[str, Path]) -> str:
    match block:
        case Text(text):
            return literal(text)
        case Heading(text):
            return f"### {literal(text)}"
        case Refusal(text):
            return f"> Not shown: {literal(text)}"
        case Items(texts):
            return "\n".join(f"- {literal(text)}" for text in texts)
        case Code(text, language):
            return f"```{language}\n{text}\n```"
        case Figure(name, caption, _):
            return f"![{literal(caption)}]({pictures[name].name})" if name in pictures else ""
        case Table():
            return _table(block)


def _table(table: Table) -> str:
    lines = grid(table.header, [tuple(map(cell, row)) for row in table.rows])
    return "\n".join([*lines, "", literal(table.caption)])


def literal(text: str) -> str:
    """``text`` with its marks, in which nothing else is read as an element, a link or an entity."""
    return "".join(_MARKS[mark].format(piece if mark == "code" else _plain(piece)) for mark, piece in marks(text))


_MARKS = {"plain": "{}", "strong": "**{}**", "code": "`{}`"}
_ENTITY, _ELEMENT, _LINK = (
    re.compile(r"&(?=#?\w+;)"),
    re.compile(r"<(?=[A-Za-z/!?])"),
    re.compile(r"\](?=[(\[])|^(?=\[[^\]]*\]:)"),
)


def _plain(text: str) -> str:
    text = text.replace("\\", "\\\\").replace("`", "\\`").replace("\n", " ")
    return _LINK.sub(r"\\\g<0>", _ELEMENT.sub("&lt;", _ENTITY.sub("&amp;", text)))


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
    """A bar would end the cell, and a line the row."""
    return " ".join(literal(text).replace("|", "\\|").splitlines())
