"""AdamW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Lt

from sam2lora.choice import choice
from sam2lora.optimizers.groups import Group, param_groups

Decay = Annotated[float, Ge(0), Lt(1)]


@choice
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): a step shrinks weights by ``lr * weight_decay``.

    ``betas``: decay of the averages of the gradient and of its square.
    """

    kind: Literal["adamw"] = "adamw"
    lr: Annotated[float, Gt(0)] = 1e-3
    weight_decay: Annotated[float, Ge(0)] = 1e-2
    betas: tuple[Decay, Decay] = (0.9, 0.999)

    def build(self, groups: Sequence[Group]) -> torch.optim.Optimizer:
        """The optimizer of ``groups``. Raises ``ValueError`` if there are none."""
        scaled = param_groups(groups, self.lr)
        return torch.optim.AdamW(scaled, lr=self.lr, betas=self.betas, weight_decay=self.weight_decay, fused=True)
