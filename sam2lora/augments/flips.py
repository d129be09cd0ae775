"""Mirror images: the augmentation without a parameter to choose."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torchvision.transforms import v2

from sam2lora.augments.seeded import apply
from sam2lora.choice import choice


@choice
class Flips:
    """Mirror left-right and top-bottom, each in half of the cases.

    A left eye mirrored is a right eye; upside down is not anatomical, but no vessel model should depend on it.
    """

    kind: Literal["flips"] = "flips"

    def __call__(self, image: Tensor, mask: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """``image`` (3, S, S) uint8 and ``mask`` (S, S) uint8 in {0, 1}, mirrored alike."""
        return apply(v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]), image, mask, seed)
