"""Passes: what a step asks of its images before the optimizer takes it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

Memory = dict[str, Tensor | float]
"""What lasts from step to step and in checkpoints. Tensors are on the device of the weights."""


@dataclass(frozen=True)
class Ask:
    """One pass over images of the step.

    ``images``: their places (K,) among all N of the step, int64 on the device (None: all). ``backward``: whether the
    gradient of their mean loss is wanted, or their losses alone.
    """

    images: Tensor | None = None
    backward: bool = True


class Passes(NamedTuple):
    """The most passes that a step asks for, and how many of them at most go backward."""

    forward: int
    backward: int


Plan = Generator[Ask, Tensor, None]
"""A step in the making: it yields what it asks for and is sent the losses (N,) or (K,) of these images, weighted."""
