"""Polynomial decay."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Gt

from sam2lora.choice import choice
from sam2lora.schedules.timing import Share, warm


@choice
class Polynomial:
    """``(1 - progress) ** power``: the decay of DeepLab and nnU-Net with power 0.9, linear with power 1.

    ``warmup``: the share of the run that rises linearly to 1 first.
    """

    kind: Literal["polynomial"] = "polynomial"
    power: Annotated[float, Gt(0)] = 0.9
    warmup: Share = 0.0

    def factor(self, step: int, total: int) -> float:
        """The factor of the learning rate at ``step`` of ``total``, in [0, 1]; 0 only at ``step == total``."""
        rise, progress = warm(step, total, self.warmup)
        return float(rise * (1 - progress) ** self.power)
