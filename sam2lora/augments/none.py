"""No augmentation: the arm that shows what augmentation is worth."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from sam2lora.choice import choice


@choice
class NoAugment:
    """Return image and mask unchanged."""

    kind: Literal["none"] = "none"

    def __call__(self, image: Tensor, mask: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """``image`` (3, S, S) uint8 and ``mask`` (S, S) uint8 in {0, 1}, as they came."""
        return image, mask
