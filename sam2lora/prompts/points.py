"""Points on the structure and beside it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from annotated_types import Ge
from numpy.typing import NDArray
from pydantic import model_validator

from sam2lora.choice import choice
from sam2lora.prompts.marks import BESIDE, ON, Marks, joined, padded
from sam2lora.prompts.regions import Region, draw


@choice
class Points:
    """``positive`` distinct pixels of the mask, drawn by ``region``, and ``negative`` ones uniformly outside it.

    SAM2LoRA (Mandal et al. 2025, arXiv 2510.10288) trains with five uniform positive points, after an erosion of the
    mask by 2 x 2, which would leave nothing of a vessel of one pixel: here every pixel of the mask may be drawn.
    """

    oracle: ClassVar[bool] = True
    gives_points: ClassVar[bool] = True
    kind: Literal["points"] = "points"
    positive: Annotated[int, Ge(0)] = 5
    negative: Annotated[int, Ge(0)] = 0
    region: Region = "uniform"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.positive + self.negative == 0:
            raise ValueError("Points need at least one point, but positive and negative are both 0: use NoPrompt().")
        return self

    def sample(self, mask: NDArray[np.bool_], rng: np.random.Generator) -> Marks:
        """Marks of a mask (S, S): ``positive`` places labelled 1, then ``negative`` places labelled 0.

        Places that the mask cannot fill (empty, too small, or the whole frame for negatives) are padding.
        """
        inside = draw(mask, self.positive, self.region, rng)
        outside = draw(~mask, self.negative, "uniform", rng)
        return joined(padded(inside, ON, self.positive), padded(outside, BESIDE, self.negative))
