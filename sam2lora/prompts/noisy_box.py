"""A box drawn with an unsteady hand."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Gt, Le
from numpy.typing import NDArray

from sam2lora.choice import choice
from sam2lora.prompts.box import Box
from sam2lora.prompts.marks import PADDING, Marks


@choice
class NoisyBox:
    """The box around the mask, each of its four sides moved on its own by up to ``noise`` of the box's extent there.

    Uniform in both directions, then clipped to the frame. With 0.1 this is what SAM 2 is trained with, less its bound
    of 20 pixels (``sample_box_points``); Stable-SAM (Fan et al. 2025, arXiv 2311.15776) asks how well a model stands
    larger noise. Up to 0.5 opposite sides cannot change places.
    """

    oracle: ClassVar[bool] = True
    gives_points: ClassVar[bool] = True
    kind: Literal["noisy_box"] = "noisy_box"
    noise: Annotated[float, Gt(0), Le(0.5)] = 0.1

    def sample(self, mask: NDArray[np.bool_], rng: np.random.Generator) -> Marks:
        """Two places for a mask (S, S): the moved corners of its box, at fractions of pixels; padding if it is empty.

        The extent is the distance of the corners, ``x last - x first``: a box of one pixel has none and stays.
        """
        corners, labels = Box().sample(mask, rng)
        moved = corners + rng.uniform(-self.noise, self.noise, (2, 2)) * (corners[1] - corners[0])
        limit = np.array(mask.shape[::-1]) - 1
        return np.where(labels[:, None] == PADDING, 0, np.clip(moved, 0, limit)).astype(np.float32), labels
