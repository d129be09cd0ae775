"""The way from a native image into the square frame of a model, and back.

Crop to the bounding box of the field of view, resize so that the longer side fills the frame, pad bottom and right
with zeros ("letterbox"). Nothing is stretched: a pixel stays square, a vessel keeps its calibre relative to the eye.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2lora.datasets.pairs import Bits, Pair, Pixels

_Number = TypeVar("_Number", np.uint8, np.float32)

OUTSIDE = -20.0  # logit of a pixel that the model never saw; its probability is 2e-9


@dataclass(frozen=True)
class Native:
    """The truth of one image at native size, and its way into the frame.

    ``mask``, ``fov``: (H, W) bool. ``box``: (top, left, bottom, right) of the crop, bottom and right exclusive.
    ``content``: (h, w) of the resized crop; max(h, w) is the side S of the frame, the rest of S x S is padding.
    """

    mask: Bits
    fov: Bits
    box: tuple[int, int, int, int]
    content: tuple[int, int]


def crop_box(fov: Bits) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of the set pixels of ``fov`` (H, W). The whole image where none is set."""
    rows, columns = np.flatnonzero(fov.any(axis=1)), np.flatnonzero(fov.any(axis=0))
    if rows.size == 0:
        return 0, 0, fov.shape[0], fov.shape[1]
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def content_size(box: tuple[int, int, int, int], size: int) -> tuple[int, int]:
    """(h, w) of the crop after its longer side became ``size``; the shorter one keeps at least one pixel."""
    height, width = box[2] - box[0], box[3] - box[1]
    scale = size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def letterbox(pair: Pair, size: int) -> tuple[Pixels, Pixels, Native]:
    """Bring a pair into the frame: image (S, S, 3) uint8, mask (S, S) uint8 in {0, 1}, and the way back.

    Shrinking averages areas; a mask pixel is set where at least half of its area is. Enlarging is bilinear.
    """
    box = crop_box(pair.fov)
    height, width = content_size(box, size)
    top, left, bottom, right = box
    image = np.zeros((size, size, 3), np.uint8)
    image[:height, :width] = _resize(pair.image[top:bottom, left:right], height, width)
    mask = np.zeros((size, size), np.uint8)
    cover = _resize(pair.mask[top:bottom, left:right].astype(np.float32), height, width)
    mask[:height, :width] = cover >= 0.5
    return image, mask, Native(pair.mask, pair.fov, box, (height, width))


def to_native(logits: NDArray[np.float32], native: Native) -> NDArray[np.float32]:
    """Bring ``logits`` (S, S) of the model frame back to (H, W): drop the padding, resize bilinearly, undo the crop.

    Pixels outside the crop get ``OUTSIDE``. Raises ``ValueError`` when ``logits`` is not of the frame's size.
    """
    side = max(native.content)
    if logits.shape != (side, side):
        raise ValueError(f"logits must have the size of the model frame, {(side, side)}, but they have {logits.shape}")
    height, width = native.content
    top, left, bottom, right = native.box
    full = np.full(native.mask.shape, OUTSIDE, np.float32)
    content = np.ascontiguousarray(logits[:height, :width], np.float32)
    full[top:bottom, left:right] = cv2.resize(content, (right - left, bottom - top), interpolation=cv2.INTER_LINEAR)
    return full


def _resize(array: NDArray[_Number], height: int, width: int) -> NDArray[_Number]:
    shrinks = height <= array.shape[0] and width <= array.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cast("NDArray[_Number]", cv2.resize(np.ascontiguousarray(array), (width, height), interpolation=how))
