"""No early stopping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from sam2lora.choice import choice

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler


@choice
class Full:
    """Every trial runs all its epochs: what importance and ablations need. ``--scheduler none`` names it."""

    kind: Literal["none"] = "none"

    def build(self, epochs: int) -> TrialScheduler:
        """Ray Tune's first-in, first-out scheduler."""
        from ray.tune.schedulers import FIFOScheduler

        return FIFOScheduler()
