"""Qualitative panels: photograph, truth, prediction and errors of the worst, median and best image of each target."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from harness.ablated.answers import Answers
from harness.pages.document import Block, Figure, Refusal, Section, Text


def panels(found: Answers, folder: Path) -> Section:
    """A picture per target, out of one trial of the best arm. ``folder``: the study's."""
    title = "What it looks like"
    trial, rows = _chosen(found, folder)
    if trial is None:
        told = "no trial of the best arm has left pictures (simulated, or recorded by an earlier version)."
        return Section(title, (Refusal(told),))
    arm, number = trial
    blocks: list[Block] = [
        Text(
            f"One trial, not an average: the first replicate of the arm {arm} (trial {number}), which has the highest "
            "mean. The images are its own worst, median and best by Dice. From left to right: photograph, truth, "
            "probability, errors (green found, orange missed, pink false)."
        )
    ]
    for target in found.cells.targets:
        own = [row for row in rows if row["dataset"] == target.name]
        if own:
            scores = "; ".join(f"{row['place']} {row['image']}: Dice {row['dice']:.3f}" for row in own)
            caption = f"{target.name}, n = {len(target.patients)} images. {scores}."
            blocks.append(Figure(f"panels_{target.name}", caption))
    return Section(title, tuple(blocks))


def pictures(found: Answers, folder: Path) -> Iterator[tuple[str, Image.Image]]:
    """The cut-out picture of every target, by the figure's name."""
    trial, rows = _chosen(found, folder)
    if trial is None:
        return
    with Image.open(_file(found, folder, trial[1])) as sheet:
        for target in found.cells.targets:
            own = [row for row in rows if row["dataset"] == target.name]
            if own:
                bottom = max(row["top"] + row["height"] for row in own)
                yield f"panels_{target.name}", sheet.crop((0, min(row["top"] for row in own), sheet.width, bottom))


def _chosen(found: Answers, folder: Path) -> tuple[tuple[str, int] | None, list[dict[str, Any]]]:
    """Arm and number of the trial that is shown, and the rows of its picture; None where there is no picture."""
    best = next((one.arm for one in found.best if one.target is None), found.reference)
    place = found.cells.arms.index(best) if best in found.cells.arms else 0
    for key in found.measured.keys[place]:
        file = folder / "trials" / str(key) / "predictions.png"
        if key and file.is_file():
            with Image.open(file) as sheet:
                rows = json.loads(sheet.info.get("rows", "[]"))
            if rows:
                trials = found.table.trials
                return (best, int(trials.loc[trials["key"] == key, "number"].iloc[0])), rows
    return None, []


def _file(found: Answers, folder: Path, number: int) -> Path:
    trials = found.table.trials
    key = trials.loc[trials["number"] == number, "key"].iloc[0]
    return folder / "trials" / str(key) / "predictions.png"
