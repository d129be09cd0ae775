"""The pictures that a trial left of its test images, cut into one for each data set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from harness.reports.document import Figure

READ_AS = "From left to right: photograph, truth, probability, errors (green found, orange missed, pink false)."


def sheet(folder: Path, key: str) -> Path:
    """Where the trial ``key`` of the study in ``folder`` leaves its pictures."""
    return folder / "trials" / key / "predictions.png"


def rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a sheet from its top (`sam2lora.predict.Shown`, with ``top`` and ``height``); none without a sheet,
    or in one of an earlier version."""
    if not file.is_file():
        return []
    with Image.open(file) as picture:
        told: list[dict[str, Any]] = json.loads(picture.info.get("rows", "[]"))
    return told


def figure(dataset: str, own: list[dict[str, Any]], images: int) -> Figure:
    """The figure of a data set's rows; ``images``: how many images they were picked from."""
    scores = "; ".join(f"{row['place']} {row['image']}: Dice {row['dice']:.3f}" for row in own)
    return Figure(f"panels_{dataset}", f"{dataset}, n = {images} images. {scores}.")


def cut(file: Path, datasets: list[str]) -> Iterator[tuple[str, Image.Image]]:
    """The part of the sheet that shows each data set, by its figure's name."""
    told = rows(file)
    if not told:
        return
    with Image.open(file) as picture:
        for dataset in datasets:
            own = [row for row in told if row["dataset"] == dataset]
            if own:
                bottom = max(row["top"] + row["height"] for row in own)
                box = (0, min(row["top"] for row in own), picture.width, bottom)
                yield f"panels_{dataset}", picture.crop(box)
