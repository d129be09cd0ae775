"""Which photographs are the same: pixel for pixel by their fingerprints, by their looks where a copy was altered."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2lora.datasets.field_of_view import field_of_view
from sam2lora.datasets.geometry import crop_box
from sam2lora.datasets.pairs import Pixels

SIDE = 96
"""Of a thumbnail, in pixels."""
_READ_AT = 256  # longer side at which the field of view is sought: enough for a box that is drawn at 96 pixels
_CHORD = 0.2  # share of the longest chord; the rows of a disc that have less are 1 % of its height
_GRID = 32  # side of the pattern that is compared: large vessels show, JPEG blocks and grain do not
_RIM = 0.85  # share of the half side within which patterns are compared: the rim of the field of view is the camera's
_GREY = 1.0  # contrast below a grey level is noise, and is not raised to full height
_CUT = 0.05  # share of a side that a copy may lack
_CUTS = (  # (top, left, bottom, right) in units of _CUT: none, every side a little or by all of it, one side, a corner
    (0.0, 0.0, 0.0, 0.0), (0.5, 0.5, 0.5, 0.5), (1.0, 1.0, 1.0, 1.0),
    (1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0),
    (1.0, 1.0, 0.0, 0.0), (0.0, 1.0, 1.0, 0.0), (0.0, 0.0, 1.0, 1.0), (1.0, 0.0, 0.0, 1.0),
)  # fmt: skip
_ALIKE = 0.8  # correlation of two patterns; different eyes reach .75 among 25,873 real pairs, copies mostly .9
_ROWS = 256  # photographs that are compared with all others at once

Floats = NDArray[np.float32]


def fingerprint(image: Pixels) -> str:
    """Thirty-two hexadecimal digits over the size and the decoded pixels of ``image`` (H, W, 3) at native size.

    Equal for equal pixels, whatever the format, the name and the metadata of the files.
    """
    return hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).hexdigest()[:32]


def thumbnail(image: Pixels) -> Pixels:
    """The green channel of the box of the field of view of ``image`` (H, W, 3), stretched to (SIDE, SIDE) uint8.

    The field of view is computed, also where one ships: the copies of a photograph need not ship the same.
    """
    scale = min(1.0, _READ_AT / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    lit = field_of_view(small)
    rows, columns = (_long(lit.sum(axis=axis)) for axis in (1, 0))
    top, left, bottom, right = crop_box(rows[:, None] & columns)
    return _stretched(small[top:bottom, left:right, 1], SIDE)


def _long(chords: NDArray[np.int_]) -> NDArray[np.bool_]:
    """Which rows or columns cross the disc in earnest: specks that JPEG noise adds to its edge move no box."""
    return np.asarray(chords >= _CHORD * chords.max(), np.bool_)


def alike(thumbnails: Sequence[Pixels] | Pixels) -> list[tuple[int, int]]:
    """The pairs (i, j), i < j, of ``thumbnails`` (N, SIDE, SIDE) that look like one photograph, in ascending order.

    Found: copies that were resized, compressed anew, cut by up to 5 % of a side, or mirrored. What is compared is the
    correlation of a band-pass of 32 x 32 values, evened out in contrast, within the field of view: coarse enough to
    survive compression and fine enough to tell the vessels of two eyes apart. A picture of one colour is like none.
    """
    if len(thumbnails) < 2:
        return []
    patterns = np.stack([_patterns(one) for one in thumbnails])
    views = patterns.reshape(-1, patterns.shape[2]).T
    found: set[tuple[int, int]] = set()
    for flip in (False, True):
        wholes = _mirrored(patterns[:, 0]) if flip else patterns[:, 0]
        for start in range(0, len(wholes), _ROWS):
            scores = (wholes[start : start + _ROWS] @ views).reshape(-1, len(wholes), len(_CUTS)).max(axis=2)
            rows, columns = np.nonzero(scores >= _ALIKE)
            found |= {(min(i, j), max(i, j)) for i, j in zip((rows + start).tolist(), columns.tolist(), strict=True)}
    return sorted((i, j) for i, j in found if i != j)


def _patterns(thumbnail: Pixels) -> Floats:
    """The pattern of a thumbnail whole and cut, (cuts, values) of length 1, or 0 where there is nothing to see."""
    return np.stack([_pattern(_cut(thumbnail, cut)) for cut in _CUTS])


def _cut(thumbnail: Pixels, cut: tuple[float, float, float, float]) -> Pixels:
    top, left, bottom, right = (round(share * _CUT * SIDE) for share in cut)
    return thumbnail[top : SIDE - bottom, left : SIDE - right]


def _pattern(pixels: Pixels) -> Floats:
    values = _stretched(pixels, _GRID).astype(np.float32)
    band = cv2.GaussianBlur(values, (0, 0), 0.5) - cv2.GaussianBlur(values, (0, 0), 1.5)
    contrast = np.sqrt(cv2.GaussianBlur(band * band, (0, 0), 3.0))
    inner = (band / (contrast + _GREY))[_inside()]
    inner -= inner.mean()
    length = float(np.linalg.norm(inner))
    return np.asarray(inner / length if length > 1e-3 else np.zeros_like(inner), np.float32)


def _mirrored(patterns: Floats) -> Floats:
    whole = np.zeros((len(patterns), _GRID, _GRID), np.float32)
    whole[:, _inside()] = patterns
    return whole[:, :, ::-1][:, _inside()]


def _inside() -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:_GRID, :_GRID] - (_GRID - 1) / 2
    return np.asarray(np.hypot(rows, columns) < _RIM * _GRID / 2, np.bool_)


def _stretched(pixels: Pixels, side: int) -> Pixels:
    how = cv2.INTER_AREA if min(pixels.shape) >= side else cv2.INTER_LINEAR
    return cast("Pixels", cv2.resize(np.ascontiguousarray(pixels), (side, side), interpolation=how))
