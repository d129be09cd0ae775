"""What the best settings see: photograph, truth, prediction and errors on every data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from harness.reports.document import Block, Refusal, Section, Text
from harness.reports.rendering import gallery
from harness.reports.search.best import judged
from harness.reports.search.findings import Findings
from harness.reports.search.format import marked


def panels(found: Findings, folder: Path) -> Section:
    """A picture of every data set, out of the best trial. ``folder``: the study's."""
    title = "What it looks like"
    rows = gallery.rows(gallery.sheet(folder, _key(found)))
    if not rows:
        return Section(title, (Refusal("the best trial has left no pictures, or there is none yet."),))
    blocks: list[Block] = [
        Text(
            f"The best trial, {marked(found.best.iloc[0].to_dict())}: its own worst, median and best image by Dice, "
            f"unseen hospitals first. {gallery.READ_AS}"
        )
    ]
    for dataset in _datasets(found):
        own = [row for row in rows if row["dataset"] == dataset]
        if own:
            scores = found.scores[(found.scores["place"] == 1) & (found.scores["dataset"] == dataset)]
            n = int((scores["n"] + scores["undefined"].fillna(0)).max())
            blocks.append(gallery.figure(dataset, own, n))
    return Section(title, tuple(blocks))


def pictures(found: Findings, folder: Path) -> Iterator[tuple[str, Image.Image]]:
    """The picture of every data set, by the figure's name."""
    yield from gallery.cut(gallery.sheet(folder, _key(found)), _datasets(found))


def _key(found: Findings) -> str:
    return "" if found.best.empty else str(found.best.iloc[0]["key"])


def _datasets(found: Findings) -> list[str]:
    return [dataset for dataset, _ in judged(found.scores[found.scores["place"] == 1])]
