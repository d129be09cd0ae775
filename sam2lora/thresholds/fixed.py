"""A threshold that is given."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from annotated_types import Gt, Lt

from sam2lora.choice import choice
from sam2lora.metrics import Histogram


@choice
class Fixed:
    """``probability``, whatever the images: 0.5 calls a pixel what it more probably is."""

    kind: Literal["fixed"] = "fixed"
    probability: Annotated[float, Gt(0), Lt(1)] = 0.5

    def find(self, sources: Iterable[Iterable[Histogram]]) -> float:
        """``probability``; no histogram is asked for, so no image is predicted for it."""
        return self.probability
