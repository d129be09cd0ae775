"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import torch
from annotated_types import Ge, Gt, Lt
from pydantic import model_validator

from sam2lora.choice import choice
from sam2lora.optimizers.groups import Group, param_groups


@choice
class SGD:
    """Stochastic gradient descent with momentum. The weight decay is coupled: it is added to the gradient.

    ``nesterov`` looks ahead by one step of the momentum, and so needs one.
    """

    kind: Literal["sgd"] = "sgd"
    lr: Annotated[float, Gt(0)] = 1e-2
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    nesterov: bool = False
    weight_decay: Annotated[float, Ge(0)] = 0.0

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("Nesterov needs a momentum, but momentum is 0: raise it or set nesterov to False.")
        return self

    def build(self, groups: Sequence[Group]) -> torch.optim.Optimizer:
        """The optimizer of ``groups``. Raises ``ValueError`` if there are none."""
        scaled = param_groups(groups, self.lr)
        return torch.optim.SGD(
            scaled, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, weight_decay=self.weight_decay
        )
