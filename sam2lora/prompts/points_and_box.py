"""A box and points together."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sam2lora.choice import choice
from sam2lora.prompts.box import Box
from sam2lora.prompts.marks import Marks, joined
from sam2lora.prompts.points import Points


@choice
class PointsAndBox:
    """The box around the mask, and points on and beside it."""

    oracle: ClassVar[bool] = True
    gives_points: ClassVar[bool] = True
    kind: Literal["points_and_box"] = "points_and_box"
    points: Points = field(default_factory=Points)

    def sample(self, mask: NDArray[np.bool_], rng: np.random.Generator) -> Marks:
        """Marks of a mask (S, S): the two corners first, as ``SAM2ImagePredictor`` puts them, then the points."""
        return joined(Box().sample(mask, rng), self.points.sample(mask, rng))
