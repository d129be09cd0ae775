"""How far two outlines lie apart, in pixels, and how much of their surroundings they share.

A contour pixel is a pixel of the mask with one of its four neighbours off the mask. Nothing is known beyond the field
of view or the edge of the photograph, so a mask that is cut there has no contour along the cut: both masks would have
the same one, at distance 0, and every structure that reaches the rim would look well outlined.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, nan
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from sam2lora.metrics.arrays import Mask

BOUNDARY_SHARE: Final = 0.02
"""Width of the band of the boundary IoU, as a share of the diagonal of the field of view (Cheng et al. 2021)."""

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


@dataclass(frozen=True, eq=False)
class Distances:
    """From every contour pixel of one mask to the nearest one of the other: (a,) and (b,) pixels, Euclidean.

    Both are empty where the distance is undefined.
    """

    forth: NDArray[np.float64]
    back: NDArray[np.float64]

    @property
    def hd95(self) -> float:
        """The larger of the 95th percentiles of the two directions; NaN if undefined.

        This is the convention of MONAI and of Metrics Reloaded. MedPy takes one percentile of both directions
        together, which is smaller where one of them is the worse.
        """
        if not len(self.forth):
            return nan
        return max(float(np.quantile(distances, 0.95)) for distances in (self.forth, self.back))

    @property
    def assd(self) -> float:
        """The mean over the contour pixels of both masks together; NaN if undefined."""
        if not len(self.forth):
            return nan
        return float(self.forth.sum() + self.back.sum()) / (len(self.forth) + len(self.back))


def contour(mask: Mask, fov: Mask) -> Mask:
    """The pixels of ``mask`` inside ``fov`` with one of four neighbours inside ``fov`` and off the mask; (H, W)."""
    return _edge(mask, fov, _CROSS)


def distances(predicted: Mask, mask: Mask, fov: Mask) -> Distances:
    """The distances of two masks inside ``fov``, all (H, W).

    Equal masks without a contour, which are empty or full, are at one distance, 0. Undefined if masks differ and one
    has no contour, or if ``fov`` is empty.
    """
    if not fov.any():
        return Distances(np.zeros(0), np.zeros(0))
    one, other = contour(predicted, fov), contour(mask, fov)
    if one.any() and other.any():
        return Distances(_distances(one, other), _distances(other, one))
    same = int(np.array_equal(predicted & fov, mask & fov))
    return Distances(np.zeros(same), np.zeros(same))


def boundary_iou(predicted: Mask, mask: Mask, fov: Mask) -> float:
    """The IoU of the bands inside the two outlines (Cheng et al. 2021, *Boundary IoU*), all (H, W).

    A mask's band holds its pixels within d of a pixel that is inside ``fov`` and off the mask; d is `BOUNDARY_SHARE`
    of the diagonal of the bounding box of ``fov``, rounded to pixels, 1 at least, counted along rows, columns and
    diagonals alike, as in the authors' program. A structure that is nowhere wider than 2 d is its own band: of
    vessels this is the IoU. The band holds every vessel pixel of 102 masks of DRIVE, STARE, CHASE_DB1, HRF and FIVES.

    Equal masks have 1, empty and full ones included; NaN if they differ and neither has a band, or without a pixel.
    """
    if not fov.any():
        return nan
    _, _, width, height = cv2.boundingRect(fov.view(np.uint8))
    d = max(1, round(BOUNDARY_SHARE * hypot(width, height)))
    square = np.ones((2 * d + 1, 2 * d + 1), np.uint8)
    one, other = _edge(predicted, fov, square), _edge(mask, fov, square)
    union = int(np.count_nonzero(one | other))
    if union:
        return int(np.count_nonzero(one & other)) / union
    return 1.0 if np.array_equal(predicted & fov, mask & fov) else nan


def _edge(mask: Mask, fov: Mask, reach: NDArray[np.uint8]) -> Mask:
    """The pixels of ``mask`` within ``reach`` of a pixel off it, all inside ``fov``."""
    beside = cv2.dilate((fov & ~mask).view(np.uint8), reach)
    return np.asarray(mask & fov & beside.view(np.bool_))


def _distances(start: Mask, end: Mask) -> NDArray[np.float64]:
    """From each pixel of ``start`` to the nearest one of ``end``, in no order.

    A tree over the contour's pixels takes half the time of a distance transform of the image: contours are thin, and
    the pixels that both share need no search.
    """
    found = np.zeros(np.count_nonzero(start))
    tree = KDTree(_places(end), balanced_tree=False, compact_nodes=False)
    apart = _places(start & ~end)
    found[: len(apart)] = tree.query(apart)[0]
    return found


def _places(mask: Mask) -> NDArray[np.int32]:
    """(n, 2): column and row of every pixel of ``mask``. NumPy's own search takes five times as long."""
    found = cv2.findNonZero(mask.view(np.uint8))
    return np.zeros((0, 2), np.int32) if found is None else found.reshape(-1, 2)
