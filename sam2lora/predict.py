"""What a model sees: predictions beside the truth, as pictures. People look at pictures before they read numbers.

``python -m sam2lora.predict`` segments photographs without a truth, and lives in ``sam2lora.commands.predict``.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sam2lora.datasets import CachedSet
from sam2lora.evaluate import predict
from sam2lora.metrics import confusion
from sam2lora.train import Session, judged

_GAP = 4
_TITLE = 18
# Okabe and Ito's colour-blind safe palette: found, missed, false.
_FOUND, _MISSED, _FALSE = (0, 158, 115), (230, 159, 0), (204, 121, 167)


def gallery(session: Session) -> Image.Image:
    """One row per data set, sources first: photograph, truth, probability, and errors of its first test image.

    Drawn in the model's frame (S x S pixels each). In the last column green is found, orange missed, pink false.
    """
    rows = [_row(session, opened, images[0], role) for opened, role, images in judged(session)]
    return _stack(rows, session.config.image_size)


def _row(session: Session, opened: CachedSet, index: int, role: str) -> tuple[str, list[NDArray[np.uint8]]]:
    image, mask = np.array(opened.images[index]), np.array(opened.masks[index]).astype(bool)
    logits = predict(session.segmenter, opened, [index], session.config.test_prompt, session.runtime, seed=0)[0]
    score = confusion(logits, mask).dice
    title = f"{opened.dataset.name} ({role}), image {opened.ids[index]}: Dice {score:.3f} in this frame"
    probability = (torch.from_numpy(logits).sigmoid().numpy() * 255).astype(np.uint8)
    return title, [image, _grey(mask * np.uint8(255)), _grey(probability), errors(image, mask, logits > 0)]


def errors(image: NDArray[np.uint8], mask: NDArray[np.bool_], found: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """``image`` (H, W, 3) darkened, with hits green, misses orange and false alarms pink. Masks are (H, W)."""
    painted = np.asarray(image // 3, dtype=np.uint8)
    for where, colour in ((mask & found, _FOUND), (mask & ~found, _MISSED), (~mask & found, _FALSE)):
        painted[where] = colour
    return painted


def overlay(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """``image`` (H, W, 3) with the pixels of ``mask`` (H, W) half green."""
    painted = image.copy()
    painted[mask] = image[mask] // 2 + np.array(_FOUND, np.uint8) // 2
    return painted


def _grey(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(values[..., None], 3, axis=2)


def _stack(rows: list[tuple[str, list[NDArray[np.uint8]]]], size: int) -> Image.Image:
    """The rows under each other on white, each with its title above it."""
    width, height = 4 * (size + _GAP) + _GAP, len(rows) * (size + _TITLE + _GAP) + _GAP
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    for r, (title, panels) in enumerate(rows):
        top = _GAP + r * (size + _TITLE + _GAP)
        pen.text(
            (_GAP, top), f"{title}. Photograph, truth, probability, errors (orange missed, pink false)", fill="black"
        )
        for c, panel in enumerate(panels):
            sheet.paste(Image.fromarray(panel), (_GAP + c * (size + _GAP), top + _TITLE))
    return sheet


if __name__ == "__main__":
    from sam2lora.commands.predict import main

    raise SystemExit(main())
