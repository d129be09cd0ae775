"""Cosine decay with warm restarts."""

from __future__ import annotations

from typing import Literal

from sam2lora.choice import choice
from sam2lora.schedules.cosine import Floor, half_cosine
from sam2lora.schedules.timing import Span, check, in_steps


@choice
class CosineRestarts:
    """Half a cosine from 1 towards ``floor``, begun anew every ``period`` (Loshchilov and Hutter 2017, T_mult = 1).

    ``period``: an int counts optimizer steps; a float, between 0 and 1, is a share of the run. SAM2LoRA's runs restart
    every 1000 steps, 30 times.
    """

    kind: Literal["cosine_restarts"] = "cosine_restarts"
    period: Span = 0.25
    floor: Floor = 0.0

    def factor(self, step: int, total: int) -> float:
        """The factor of the learning rate at ``step`` of ``total``, in (0, 1]: each restart is at 1."""
        check(step, total)
        period = in_steps(self.period, total)
        return half_cosine(step % period / period, self.floor)
