"""Qualitative panels: photograph, truth, prediction and errors of the worst, median and best image of each target."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from harness.reports.ablation.findings import Answers
from harness.reports.document import Block, Refusal, Section, Text
from harness.reports.rendering import gallery


def panels(found: Answers, folder: Path) -> Section:
    """A picture per target, out of one trial of the best arm. ``folder``: the study's."""
    title = "What it looks like"
    chosen = _chosen(found, folder)
    if chosen is None:
        told = "no trial of the best arm has left pictures (simulated, or recorded by an earlier version)."
        return Section(title, (Refusal(told),))
    arm, key = chosen
    trials = found.table.trials
    number = int(trials.loc[trials["key"] == key, "number"].iloc[0])
    blocks: list[Block] = [
        Text(
            f"One trial, not an average: the first replicate of the arm {arm} (trial {number}), which has the highest "
            f"mean. The images are its own worst, median and best by Dice. {gallery.READ_AS}"
        )
    ]
    rows = gallery.rows(gallery.sheet(folder, key))
    for target in found.cells.targets:
        own = [row for row in rows if row["dataset"] == target.name]
        if own:
            blocks.append(gallery.figure(target.name, own, len(target.patients)))
    return Section(title, tuple(blocks))


def pictures(found: Answers, folder: Path) -> Iterator[tuple[str, Image.Image]]:
    """The picture of every target, by the figure's name."""
    chosen = _chosen(found, folder)
    if chosen is not None:
        yield from gallery.cut(gallery.sheet(folder, chosen[1]), [target.name for target in found.cells.targets])


def _chosen(found: Answers, folder: Path) -> tuple[str, str] | None:
    """Arm and key of the trial that is shown; None where no trial of the best arm has pictures."""
    best = found.highest.arm if found.highest else found.reference
    place = found.cells.arms.index(best) if best in found.cells.arms else 0
    keys = (str(key) for key in found.measured.keys[place] if key)
    return next(((best, key) for key in keys if gallery.rows(gallery.sheet(folder, key))), None)
