"""Optimizers. A choice builds the ``torch.optim.Optimizer`` of named groups of parameters."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sam2lora.optimizers.adamw import AdamW
from sam2lora.optimizers.groups import Group
from sam2lora.optimizers.sgd import SGD

Optimizer = Annotated[AdamW | SGD, Field(discriminator="kind")]

__all__ = ["SGD", "AdamW", "Group", "Optimizer"]
