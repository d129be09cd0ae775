"""Decay in steps."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Gt, Le

from sam2lora.choice import choice
from sam2lora.schedules.timing import Span, check, in_steps


@choice
class Step:
    """``gamma ** floor(step / every)``: the rate falls by the factor ``gamma`` after each ``every``.

    ``every``: an int counts optimizer steps; a float, between 0 and 1, is a share of the run.
    """

    kind: Literal["step"] = "step"
    every: Span = 0.25
    gamma: Annotated[float, Gt(0), Le(1)] = 0.2

    def factor(self, step: int, total: int) -> float:
        """The factor of the learning rate at ``step`` of ``total``, in [0, 1]."""
        check(step, total)
        return float(self.gamma ** (step // in_steps(self.every, total)))
