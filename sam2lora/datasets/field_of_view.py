"""The field of view of a fundus camera, for sets that ship no mask of it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sam2lora.datasets.pairs import Bits, Pixels

_WORKING_SIDE = 800  # larger images are measured at this size: the border is smooth, the pixel noise is not
_CORNER = 0.07  # side of a corner square, as a share of the image's side
_RISE = 0.06  # share of the way from the border's level to the retina's at which the field of view begins


def field_of_view(image: Pixels) -> Bits:
    """The field of view of ``image`` (H, W, 3) RGB, as (H, W) bool: its lit disc, or all where none stands out."""
    disc = lit_disc(image)
    return np.ones(image.shape[:2], np.bool_) if disc is None else disc


def lit_disc(image: Pixels) -> Bits | None:
    """The lit disc of a fundus photograph ``image`` (H, W, 3) RGB, as (H, W) bool; None where none stands out.

    The brightest channel (red, nearly always) is rid of grain and thresholded a little above the level of the black
    border, which the corners show (STARE's border is as light as DRIVE's darkest retina, so no fixed level serves);
    the largest component is kept and its holes are filled. None for a picture without a dark border (a crop, a flat
    or a black one).
    """
    height, width = image.shape[:2]
    scale = min(1.0, _WORKING_SIDE / max(height, width))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    light = cv2.medianBlur(np.ascontiguousarray(small.max(axis=2)), 5)  # removes grain and leaves the edge in place
    threshold = _threshold(light)
    if threshold is None or not (light > threshold).any():
        return None
    lit = _largest(light > threshold)
    if scale < 1:
        lit = cv2.resize(lit.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
    return np.asarray(lit, np.bool_)


def _threshold(light: NDArray[np.uint8]) -> float | None:
    """Between border and retina; None where there is no border.

    The lightest corner is left out: some cameras print a mark there.
    """
    height, width = light.shape
    down, across = max(2, int(_CORNER * height)), max(2, int(_CORNER * width))
    rows, columns = (slice(down), slice(-down, None)), (slice(across), slice(-across, None))
    levels = sorted(float(np.percentile(light[row, column], 95)) for row in rows for column in columns)
    border = levels[2]
    middle = light[height // 4 : height - height // 4, width // 4 : width - width // 4]
    retina = float(np.median(middle))
    return border + _RISE * (retina - border) if border < 0.7 * retina else None


def _largest(lit: Bits) -> Bits:
    labels, _ = ndimage.label(lit)
    sizes = np.bincount(labels.ravel())[1:]
    return np.asarray(ndimage.binary_fill_holes(labels == 1 + int(np.argmax(sizes))), np.bool_)
