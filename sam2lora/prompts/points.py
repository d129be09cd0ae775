"""Points inside and outside the mask."""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray
from pydantic import model_validator

from sam2lora.choice import choice

PADDING = -1


@choice
class Points:
    """``positive`` points inside the mask and ``negative`` ones outside, uniform over distinct pixels.

    SAM2LoRA trains and tests with 5 positive points from the ground truth, after an erosion by 2 x 2, which would leave
    nothing of a thin vessel: here every pixel of the mask may be drawn.
    """

    kind: Literal["points"] = "points"
    positive: Annotated[int, Ge(0)] = 5
    negative: Annotated[int, Ge(0)] = 0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.positive + self.negative == 0:
            raise ValueError("Points need at least one point, but positive and negative are both 0: use NoPrompt().")
        return self

    @property
    def oracle(self) -> bool:
        """Whether the prompt is drawn from the ground truth: yes."""
        return True

    def sample(
        self, masks: NDArray[np.bool_], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Points of masks (N, S, S): coordinates (N, P, 2) float32 and labels (N, P) int32, P = positive + negative.

        A coordinate is (x, y) = (column, row): an integer names the pixel's centre, to which SAM's prompt encoder
        itself adds the half pixel. Labels are 1 for the first ``positive`` columns and 0 for the others; a point that
        an image cannot give (mask empty, too small, or full) is (0, 0) with label -1, which SAM ignores.

        Pixels are numbered row by row and drawn points stand in that order, so ``rng`` alone decides.
        """
        points = [self._of_one(mask, rng) for mask in masks]
        coords = np.zeros((len(masks), self.positive + self.negative, 2), np.float32)
        labels = np.full(coords.shape[:2], PADDING, np.int32)
        for i, (inside, outside) in enumerate(points):
            for label, start, drawn in ((1, 0, inside), (0, self.positive, outside)):
                here = slice(start, start + len(drawn))
                coords[i, here], labels[i, here] = drawn, label
        return coords, labels

    def _of_one(
        self, mask: NDArray[np.bool_], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return _draw(mask, self.positive, rng), _draw(~mask, self.negative, rng)


def _draw(region: NDArray[np.bool_], count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """At most ``count`` distinct pixels of ``region`` (S, S) as (x, y), in row order."""
    pixels = np.flatnonzero(region)
    drawn = np.sort(rng.choice(pixels, min(count, len(pixels)), replace=False, shuffle=False))
    rows, columns = np.divmod(drawn, region.shape[1])
    return np.stack([columns, rows], axis=-1).astype(np.float32)
