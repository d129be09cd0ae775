"""The box around the mask."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sam2lora.choice import choice
from sam2lora.prompts.marks import BOTTOM_RIGHT, PADDING, TOP_LEFT, Marks


@choice
class Box:
    """The smallest upright box that holds the mask, all of its components together."""

    oracle: ClassVar[bool] = True
    gives_points: ClassVar[bool] = True
    kind: Literal["box"] = "box"

    def sample(self, mask: NDArray[np.bool_], rng: np.random.Generator) -> Marks:
        """Two places for a mask (S, S): the corners, see ``corners``. An empty mask has no box: both are padding."""
        found = corners(mask)
        if found is None:
            return np.zeros((2, 2), np.float32), np.full(2, PADDING, np.int32)
        return found, np.array([TOP_LEFT, BOTTOM_RIGHT], np.int32)


def corners(mask: NDArray[np.bool_]) -> NDArray[np.float32] | None:
    """((x first, y first), (x last, y last)) of a mask (S, S), or None if it is empty.

    The centres of the outermost pixels of the mask, both inclusive, as SAM 2 draws boxes from masks in training
    (``mask_to_box``) and its predictor takes them: the outlines of those pixels lie half a pixel further out. The box
    of one pixel has equal corners.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return np.array([[columns[0], rows[0]], [columns[-1], rows[-1]]], np.float32)
