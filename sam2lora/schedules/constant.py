"""Constant rate."""

from __future__ import annotations

from typing import Literal

from sam2lora.choice import choice
from sam2lora.schedules.timing import Share, warm


@choice
class Constant:
    """1 at every step, after a linear warm-up over the share ``warmup`` of the run (none by default)."""

    kind: Literal["constant"] = "constant"
    warmup: Share = 0.0

    def factor(self, step: int, total: int) -> float:
        """The factor of the learning rate at ``step`` of ``total``, in (0, 1]."""
        rise, _ = warm(step, total, self.warmup)
        return rise
