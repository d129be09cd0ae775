"""Augments: what happens to a training image and its mask. One choice per file."""

from typing import Annotated

from pydantic import Field

from sam2lora.augments.flips import Flips
from sam2lora.augments.fundus import Fundus
from sam2lora.augments.none import NoAugment
from sam2lora.augments.sam2lora import Sam2Lora

Augment = Annotated[NoAugment | Flips | Fundus | Sam2Lora, Field(discriminator="kind")]

__all__ = ["Augment", "Flips", "Fundus", "NoAugment", "Sam2Lora"]
