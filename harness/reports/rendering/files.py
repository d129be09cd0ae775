"""A document's files: one HTML page, Markdown, every table as CSV and LaTeX, every figure as PNG and SVG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from harness.reports.document import Document
from harness.reports.rendering import html, latex, markdown

if TYPE_CHECKING:  # these take a while to load
    from matplotlib.figure import Figure
    from PIL.Image import Image


def write(
    document: Document,
    figures: Iterable[tuple[str, Figure]],
    pictures: Iterable[tuple[str, Image]],
    frames: Mapping[str, pd.DataFrame],
    folder: Path,
) -> tuple[Path, ...]:
    """Write ``report.html``, ``report.md`` and all that belongs to them into ``folder``, which is made; their paths.

    ``figures`` and ``pictures`` (drawn, and as they are) by the names that the document calls them; ``frames``: further
    CSV files by name. Equal arguments give equal files.
    """
    from harness.reports.figures import style

    folder.mkdir(parents=True, exist_ok=True)
    drawn = [path for name, figure in figures for path in style.save(figure, folder / name)]
    for name, picture in pictures:
        picture.save(folder / f"{name}.png")
        drawn.append(folder / f"{name}.png")
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


def _csv(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_csv(path, index=False)
    return path
