"""The predictions on test images that a trial saved as a picture, cut into one figure for each data set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from harness.record.locations import trial_folder
from harness.reports.document import Figure, Section, Text
from sam2lora.files import PREDICTIONS

TITLE = "Example predictions"
READ_AS = "From left to right: photograph, truth, probability, errors (green found, orange missed, pink false)."


def sheet(folder: Path, key: str) -> Path:
    """The picture of the trial ``key`` of the study in ``folder``."""
    return trial_folder(folder, key) / PREDICTIONS


def rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a sheet from its top (`sam2lora.training.gallery.Shown`, with ``top`` and ``height``); none without a
    sheet, or in one of an earlier version."""
    if not file.is_file():
        return []
    with Image.open(file) as picture:
        described: list[dict[str, Any]] = json.loads(picture.info.get("rows", "[]"))
    return described


def figure(file: Path, dataset: str, images: int) -> Figure | None:
    """The part of a sheet that shows ``dataset``, chosen from ``images`` images; None where the sheet has none."""
    shown = [row for row in rows(file) if row["dataset"] == dataset]
    if not shown:
        return None

    def cut() -> Image.Image:
        with Image.open(file) as picture:
            bottom = max(row["top"] + row["height"] for row in shown)
            return picture.crop((0, min(row["top"] for row in shown), picture.width, bottom))

    scores = "; ".join(f"{row['place']} {row['image']}: Dice {row['dice']:.3f}" for row in shown)
    return Figure(f"panels_{dataset}", f"{dataset}, n = {images} images. {scores}.", cut)


def section(file: Path, which: str, datasets: Mapping[str, int]) -> Section:
    """The pictures of a sheet. ``which``: what they show, in words; ``datasets``: how many images each has."""
    shown = (figure(file, dataset, images) for dataset, images in datasets.items())
    return Section(TITLE, (Text(f"{which} {READ_AS}"), *(one for one in shown if one)))
