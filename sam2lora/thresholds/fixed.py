"""A threshold that is given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from annotated_types import Gt, Lt
from numpy.typing import NDArray

from sam2lora.choice import choice


@choice
class Fixed:
    """``probability``, whatever the images: 0.5 calls a pixel what it more probably is."""

    kind: Literal["fixed"] = "fixed"
    probability: Annotated[float, Gt(0), Lt(1)] = 0.5

    @property
    def candidates(self) -> NDArray[np.float64]:
        """None."""
        return np.empty(0)

    def find(self, sources: Sequence[Sequence[NDArray[np.float64]]]) -> float:
        """``probability``."""
        return self.probability
