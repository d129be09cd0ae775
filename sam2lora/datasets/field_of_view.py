"""The field of view of a fundus camera, for sets that ship no mask of it."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

from sam2lora.datasets.pairs import Bits, Pixels

_WORKING_SIDE = 800  # larger images are measured at this size: the border is smooth, the pixel noise is not


def field_of_view(image: Pixels) -> Bits:
    """The lit disc of a fundus photograph ``image`` (H, W, 3) RGB, as (H, W) bool.

    The brightest channel (red, nearly always) is smoothed and thresholded between the level of the black border and
    that of the retina; the largest component is kept and its holes are filled. An image without a dark border is
    its own field of view.
    """
    height, width = image.shape[:2]
    scale = min(1.0, _WORKING_SIDE / max(height, width))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    light = cv2.GaussianBlur(small.max(axis=2).astype(np.float32), (0, 0), 1.5)
    lit = _largest(light > _threshold(light))
    if scale < 1:
        lit = cv2.resize(lit.astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR) > 0
    return np.asarray(lit, np.bool_)


def _threshold(light: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> float:
    return 0.15 * float(np.median(light[light > 40]) if (light > 40).any() else light.max())


def _largest(lit: Bits) -> Bits:
    labels, count = ndimage.label(lit)
    if count == 0:
        return np.ones_like(lit)
    sizes = np.bincount(labels.ravel())[1:]
    return np.asarray(ndimage.binary_fill_holes(labels == 1 + int(np.argmax(sizes))), np.bool_)
