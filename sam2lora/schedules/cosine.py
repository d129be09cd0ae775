"""Cosine decay."""

from __future__ import annotations

from math import cos, pi
from typing import Annotated, Literal

from annotated_types import Ge, Le

from sam2lora.choice import choice
from sam2lora.schedules.timing import Share, warm

Floor = Annotated[float, Ge(0), Le(1)]


@choice
class Cosine:
    """Half a cosine from 1 down to ``floor`` at the end (Loshchilov and Hutter 2017, eq. 5, without restarts).

    ``warmup``: the share of the run that rises linearly to 1 first. ``floor``: a share of the peak rate.
    """

    kind: Literal["cosine"] = "cosine"
    warmup: Share = 0.0
    floor: Floor = 0.0

    def factor(self, step: int, total: int) -> float:
        """The factor of the learning rate at ``step`` of ``total``, in [0, 1]."""
        rise, progress = warm(step, total, self.warmup)
        return rise * half_cosine(progress, self.floor)


def half_cosine(progress: float, floor: float) -> float:
    """From 1 at progress 0 to ``floor`` at progress 1."""
    return floor + (1 - floor) * (1 + cos(pi * progress)) / 2
