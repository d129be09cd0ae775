"""Augments. An augment maps a training image, its mask and a seed to both after the same change.

``augment(image, mask, seed)``: ``image`` (3, S, S) uint8, ``mask`` (S, S) uint8 in {0, 1}, on any device; equal seeds
make equal changes, whatever else is drawn. A new one is a file like ``flips.py`` and its name in the union.
"""

from typing import Annotated

from pydantic import Field

from sam2lora.augments.flips import Flips
from sam2lora.augments.fundus import Fundus
from sam2lora.augments.none import NoAugment
from sam2lora.augments.sam2lora import Sam2Lora

Augment = Annotated[NoAugment | Flips | Fundus | Sam2Lora, Field(discriminator="kind")]

__all__ = ["Augment", "Flips", "Fundus", "NoAugment", "Sam2Lora"]
