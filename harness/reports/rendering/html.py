"""A document as one self-contained HTML page: images inside it, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path

from PIL import Image

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
    marks,
)
from harness.reports.rendering.markdown import SIGNS

_STYLE = Path(__file__).with_name("style.css")
_DPI = 96
"""Dots per inch of a page, and of a picture that does not say its own: figures do, so that letters have one size."""
_LONG = 44
"""Characters above which a cell is prose."""
_NUMBER = re.compile(r"^(< )?[-−+]?[\d.,]+( ?%)?$")


def write(document: Document, pictures: Mapping[str, Path]) -> str:
    """The whole page. ``pictures``: the PNG file of every figure by name; a figure without one is left out."""
    contents = "".join(f'<li><a href="#{_anchor(s)}">{escape(s.title)}</a></li>' for s in document.sections)
    body = [
        f"<h1>{inline(document.title)}</h1>",
        *(_block(block, pictures) for block in document.lead),
        f'<nav aria-label="Contents"><details><summary>Contents</summary><ol>{contents}</ol></details></nav>',
        *(_section(section, pictures) for section in document.sections),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(_plain(document.title))}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n"
        "</head>\n<body>\n<main>\n" + "\n".join(body) + "\n</main>\n</body>\n</html>\n"
    )


def _section(section: Section, pictures: Mapping[str, Path]) -> str:
    blocks = "\n".join(_block(block, pictures) for block in section.blocks)
    return f'<section id="{_anchor(section)}">\n<h2>{inline(section.title)}</h2>\n{blocks}\n</section>'


def _anchor(section: Section) -> str:
    return re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-")


def _plain(text: str) -> str:
    return "".join(piece for _, piece in marks(text))


def inline(text: str) -> str:
    """``text`` with its marks as elements."""
    elements = {"plain": "{}", "strong": "<strong>{}</strong>", "code": "<code>{}</code>"}
    return "".join(elements[mark].format(escape(piece)) for mark, piece in marks(text))


def _block(block: Block, pictures: Mapping[str, Path]) -> str:
    match block:
        case Text(text):
            return f"<p>{inline(text)}</p>"
        case Heading(text):
            return f"<h3>{inline(text)}</h3>"
        case Refusal(text):
            return f'<p class="refusal"><strong>Not shown:</strong> {inline(text)}</p>'
        case Items(texts):
            return "<ul>" + "".join(f"<li>{inline(text)}</li>" for text in texts) + "</ul>"
        case Code(text, _):
            return f'<div class="scroll"><pre><code>{escape(text)}</code></pre></div>'
        case Figure(name, caption, _):
            return _figure(caption, pictures[name]) if name in pictures else ""
        case Table():
            return _table(block)


def _figure(caption: str, file: Path) -> str:
    data = base64.b64encode(file.read_bytes()).decode("ascii")
    with Image.open(file) as picture:
        width = round(picture.width * _DPI / picture.info.get("dpi", (_DPI, _DPI))[0])
    image = f'<img alt="{escape(_plain(caption))}" width="{width}" src="data:image/png;base64,{data}">'
    # A box that scrolls must be reachable by keyboard.
    return f'<figure><div class="scroll" tabindex="0">{image}</div><figcaption>{inline(caption)}</figcaption></figure>'


def _table(table: Table) -> str:
    kinds = [_kind([row[place].text for row in table.rows]) for place in range(len(table.header))]
    head = "".join(f'<th scope="col"{kind}>{inline(name)}</th>' for name, kind in zip(table.header, kinds, strict=True))
    rows = "\n".join(f"<tr>{_row(row, kinds)}</tr>" for row in table.rows)
    inner = f"<table><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table>"
    return (
        f'<figure class="table"><div class="scroll" tabindex="0">{inner}</div>'
        f"<figcaption>{inline(table.caption)}</figcaption></figure>"
    )


def _row(row: tuple[Cell, ...], kinds: list[str]) -> str:
    return "".join(_cell(cell, kind, first=i == 0) for i, (cell, kind) in enumerate(zip(row, kinds, strict=True)))


def _kind(texts: list[str]) -> str:
    """The class of a column: numbers stand right, long texts are wrapped."""
    if texts and all(_NUMBER.match(text) for text in texts):
        return ' class="number"'
    return ' class="prose"' if any(len(text) > _LONG for text in texts) else ""


def _cell(cell: Cell, kind: str, *, first: bool) -> str:
    text = inline(cell.text)
    if cell.bold:
        text = f"<strong>{text}</strong>"
    if cell.tone:
        text = f'<span class="verdict {cell.tone}">{SIGNS[cell.tone]} {text}</span>'
    return f'<th scope="row"{kind}>{text}</th>' if first else f"<td{kind}>{text}</td>"
