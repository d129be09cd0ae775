"""No search for flat minima."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from sam2lora.choice import choice
from sam2lora.optimizers.groups import Group
from sam2lora.sharpness.passes import Ask, Memory, Passes, Plan


@choice
class Off:
    """The gradient at the weights as they are."""

    perturbs: ClassVar[bool] = False
    selects_images: ClassVar[bool] = False
    kind: Literal["off"] = "off"

    @property
    def passes(self) -> Passes:
        """One forward, one backward."""
        return Passes(1, 1)

    @property
    def copies(self) -> int:
        """None."""
        return 0

    def step(self, groups: Sequence[Group], memory: Memory, rng: np.random.Generator) -> Plan:
        """All images, once."""
        yield Ask()
