"""Schedules of the learning rate. ``factor(step, total)`` multiplies the optimizer's rate at one of ``total`` steps.

Steps count optimizer updates from 0; step ``total`` is allowed and names the end. Factors lie in [0, 1].
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sam2lora.schedules.constant import Constant
from sam2lora.schedules.cosine import Cosine
from sam2lora.schedules.cosine_restarts import CosineRestarts
from sam2lora.schedules.polynomial import Polynomial
from sam2lora.schedules.step import Step

Schedule = Annotated[Constant | Cosine | CosineRestarts | Polynomial | Step, Field(discriminator="kind")]

__all__ = ["Constant", "Cosine", "CosineRestarts", "Polynomial", "Schedule", "Step"]
