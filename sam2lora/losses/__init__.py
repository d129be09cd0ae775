"""Losses. A loss maps logits (N, 1, H, W) and a mask (N, 1, H, W) in {0, 1} to one value per image (N,).

Every loss is 0 for a perfect prediction and is differentiable wherever its logits are finite. No value depends on
the other images of the batch, so images may be batched, packed and permuted at will.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sam2lora.losses.bce import BCE
from sam2lora.losses.boundary import Boundary
from sam2lora.losses.cldice import ClDice
from sam2lora.losses.focal import Focal
from sam2lora.losses.focal_tversky import FocalTversky
from sam2lora.losses.soft_dice import SoftDice

Loss = Annotated[BCE | SoftDice | FocalTversky | Focal | ClDice | Boundary, Field(discriminator="kind")]

__all__ = [
    "BCE",
    "Boundary",
    "ClDice",
    "Focal",
    "FocalTversky",
    "Loss",
    "SoftDice",
]
