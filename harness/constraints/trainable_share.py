"""A bound on the trainable share."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from annotated_types import Gt, Le

from sam2lora.adapters import share
from sam2lora.choice import choice
from sam2lora.config import TrialConfig


@choice
class TrainableShare:
    """Fewer than ``below`` of the frozen model's parameters are trained.

    SAM2LoRA (arXiv 2510.10288) speaks of less than 5 %; of its own ranks on the large backbone 32 and 64 alone meet it.
    """

    kind: Literal["trainable_share"] = "trainable_share"
    below: Annotated[float, Gt(0), Le(1)] = 0.05

    @property
    def rule(self) -> str:
        """The constraint in words."""
        return f"the trainable share must be below {self.below:.3%}"

    def excess(self, config: TrialConfig) -> float:
        """The share minus the largest share below the bound: 0 or less exactly where the constraint is met."""
        return share(config.parts, config.backbone) - math.nextafter(self.below, 0)

    def found(self, config: TrialConfig) -> str:
        """The share of these settings."""
        return f"{share(config.parts, config.backbone):.3%}"
