"""A document's files: one HTML page, Markdown, every table as CSV and LaTeX, every figure as PNG and SVG."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from harness.reports.document import Document, Figure
from harness.reports.figures import style
from harness.reports.rendering import html, latex, markdown
from sam2lora.errors import DiskError


def write(document: Document, frames: Mapping[str, pd.DataFrame], folder: Path) -> tuple[Path, ...]:
    """Write ``report.html``, ``report.md``, tables and figures into ``folder``, which is made; their paths.

    ``frames``: further CSV files by name. Equal arguments give equal files. Raises ``DiskError``.
    """
    try:
        return _write(document, frames, folder)
    except OSError as error:
        raise DiskError(
            f"A report must be written into {folder}, but it cannot be: {error}. Free some space, or write it "
            f"elsewhere: python -m harness.report NAME --to FOLDER"
        ) from error


def _write(document: Document, frames: Mapping[str, pd.DataFrame], folder: Path) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    drawn = [path for figure in document.figures() for path in _drawn(figure, folder)]
    shown = {path.stem: path for path in drawn if path.suffix == ".png"}
    page, text = folder / "report.html", folder / "report.md"
    page.write_text(html.write(document, shown), encoding="utf-8")
    text.write_text(markdown.write(document, shown), encoding="utf-8")
    tables = []
    for table in document.tables():
        source = folder / f"{table.name}.tex"
        source.write_text(latex.table(table), encoding="utf-8")
        tables += [_csv(table.frame, folder / f"{table.name}.csv"), source]
    return page, text, *tables, *(_csv(frame, folder / f"{name}.csv") for name, frame in frames.items()), *drawn


def csv(frame: pd.DataFrame) -> str:
    """A frame as CSV; a text that a spreadsheet would run as a formula begins with an apostrophe."""
    texts = frame.select_dtypes(exclude="number").columns
    made = frame.assign(**{name: frame[name].map(_literal) for name in texts if isinstance(name, str)})
    return made.rename(columns=_literal).to_csv(index=False)


def _literal(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d.\s]|$)")


def _csv(frame: pd.DataFrame, path: Path) -> Path:
    path.write_text(csv(frame), encoding="utf-8")
    return path


def _drawn(figure: Figure, folder: Path) -> list[Path]:
    """A plot as PNG and SVG, a picture as PNG."""
    from PIL.Image import Image

    picture = figure.draw()
    if not isinstance(picture, Image):
        return style.save(picture, folder / figure.name)
    picture.save(folder / f"{figure.name}.png")
    return [folder / f"{figure.name}.png"]
