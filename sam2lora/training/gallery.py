"""What a model sees: predictions beside the truth, as pictures. People look at pictures before they read numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import log

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from sam2lora.datasets import CachedSet
from sam2lora.evaluate import Frame, predict
from sam2lora.training.scoring import evaluation_sets, prompt_seed
from sam2lora.training.session import Session, precision

_READ_AS = "Photograph, truth, probability, errors (green found, orange missed, pink false)"
_GAP = 4
_TITLE = 18
# Okabe and Ito's colour-blind safe palette: found, missed, false.
_FOUND, _MISSED, _FALSE = (0, 158, 115), (230, 159, 0), (204, 121, 167)


@dataclass(frozen=True)
class Shown:
    """A row of the gallery: whose image, and where it stands among the set's images by Dice (worst, median, best).

    ``oracle``: whether its prompt came out of the ground truth.
    """

    dataset: str
    role: str
    image: str
    place: str
    dice: float
    oracle: bool

    @property
    def title(self) -> str:
        """What stands above the row. In words, because Pillow's own font has no dagger."""
        prompted = ", prompted from ground truth" if self.oracle else ""
        return f"{self.dataset} ({self.role}), {self.place} image {self.image}: Dice {self.dice:.3f}{prompted}"


def gallery(session: Session, rows: pd.DataFrame) -> tuple[Image.Image, PngInfo]:
    """For every data set, sources first, its worst, median and best test image by the Dice of ``rows``.

    ``rows``: one per test image, as ``sam2lora.training.scoring.final_scores`` makes them. A row is photograph, truth,
    probability and errors in the model's frame (S x S pixels each); in the last column green is found, orange missed,
    pink false, at the threshold that ``rows`` names. The second value is PNG's text ``rows``: JSON of every `Shown`
    with its ``top`` and ``height`` in pixels, for cutting one out. Equal scores are ordered by name, an undefined
    one has no place.
    """
    drawn: list[tuple[str, list[NDArray[np.uint8]]]] = []
    told: list[Shown] = []
    for opened, role, _ in evaluation_sets(session):
        own = rows[(rows["dataset"] == opened.dataset.name) & rows["dice"].notna()].sort_values(["dice", "image"])
        picked = extremes(len(own))
        found = own.iloc[list(picked.values())].to_dict("records")
        indices = [opened.ids.index(str(row["image"])) for row in found]
        for place, row, index, logits in zip(picked, found, indices, _logits(session, opened, indices), strict=True):
            image, dice, threshold = str(row["image"]), float(row["dice"]), float(row["threshold"])
            shown = Shown(opened.dataset.name, role, image, place, dice, session.config.test_prompt.oracle)
            told.append(shown)
            drawn.append((shown.title, _panels(opened, index, logits, log(threshold / (1 - threshold)))))
    text = PngInfo()
    size = session.config.image_size
    sized = [{**asdict(one), "top": _top(at, size), "height": size + _TITLE} for at, one in enumerate(told)]
    text.add_text("rows", json.dumps(sized))
    return _stack(drawn, size), text


def extremes(count: int) -> dict[str, int]:
    """Where the worst, the median and the best of ``count`` sorted things are; fewer than three have no median."""
    places = {"worst": 0, "median": (count - 1) // 2, "best": count - 1}
    if count >= 3:
        return places
    return {"worst": 0, "best": 1} if count == 2 else {"only": 0} if count else {}


def _logits(session: Session, opened: CachedSet, indices: list[int]) -> Iterable[Frame]:
    """The logits that the images were scored by, from the prompts that they were scored with."""
    if not indices:
        return ()
    seed = prompt_seed(session, opened)
    with precision(session.config, session.runtime):
        return predict(session.segmenter, opened, indices, session.config.test_prompt, session.runtime, seed=seed)


def _panels(opened: CachedSet, index: int, logits: Frame, cut: float) -> list[NDArray[np.uint8]]:
    image, mask = np.array(opened.images[index]), np.array(opened.masks[index]).astype(bool)
    probability = (torch.from_numpy(logits).sigmoid().numpy() * 255).astype(np.uint8)
    return [image, _grey(mask * np.uint8(255)), _grey(probability), errors(image, mask, logits > cut)]


def errors(image: NDArray[np.uint8], mask: NDArray[np.bool_], found: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """``image`` (H, W, 3) darkened, with hits green, misses orange and false alarms pink. Masks are (H, W)."""
    painted = np.asarray(image // 3, dtype=np.uint8)
    for where, colour in ((mask & found, _FOUND), (mask & ~found, _MISSED), (~mask & found, _FALSE)):
        painted[where] = colour
    return painted


def _grey(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(values[..., None], 3, axis=2)


def _top(row: int, size: int) -> int:
    """Where a row begins, below the line that says how to read all of them."""
    return _GAP + _TITLE + row * (size + _TITLE + _GAP)


def _stack(rows: list[tuple[str, list[NDArray[np.uint8]]]], size: int) -> Image.Image:
    """The rows under each other on white, each with its title above it."""
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    widest = max(pen.textlength(line) for line in (_READ_AS, *(title for title, _ in rows)))
    width = max(4 * (size + _GAP), int(widest) + _GAP) + _GAP
    sheet = Image.new("RGB", (width, _top(len(rows), size)), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((_GAP, _GAP), _READ_AS, fill="black")
    for r, (title, panels) in enumerate(rows):
        top = _top(r, size)
        pen.text((_GAP, top), title, fill="black")
        for c, panel in enumerate(panels):
            sheet.paste(Image.fromarray(panel), (_GAP + c * (size + _GAP), top + _TITLE))
    return sheet
