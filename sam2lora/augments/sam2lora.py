"""SAM2LoRA's augmentation, for comparison with the paper."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torchvision.transforms import v2

from sam2lora.augments.seeded import apply
from sam2lora.choice import choice

_BILINEAR = v2.InterpolationMode.BILINEAR


@choice
class Sam2Lora:
    """The list of SAM2LoRA (Mandal et al. 2025, arXiv 2510.10288, as published with its code), with torchvision's v2.

    Both flips, each in half of the cases. In half of the cases all of: perspective of 0.1 (60 %), a random resized
    crop, a turn within 8 degrees, an affine map within 8 degrees, 20 % of shift and 0.2 to 0.8 of the size. In half of
    the cases, of the image alone, all of: brightness 0.1 and hue 0.02, a 3 x 3 blur of 0.1 to 0.4 pixels, sharpness
    1.2 (50 %). The mask is moved with the image and keeps its values: nearest neighbour.

    The crop of 1000 pixels of theirs, which the model then resizes to 1024, is here one crop to the frame. The affine
    map shrinks, so that in half of the cases the photograph fills at most 64 % of the frame; what is outside is 0.
    """

    kind: Literal["sam2lora"] = "sam2lora"

    def __call__(self, image: Tensor, mask: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """``image`` (3, S, S) uint8 and ``mask`` (S, S) uint8 in {0, 1}, moved alike; the image is recoloured, too."""
        return apply(_transform(image.shape[-1]), image, mask, seed)


def _transform(side: int) -> v2.Transform:
    geometry = [
        v2.RandomPerspective(0.1, p=0.6, interpolation=_BILINEAR),
        v2.RandomResizedCrop(side, interpolation=_BILINEAR, antialias=True),
        v2.RandomRotation(8, interpolation=_BILINEAR),
        v2.RandomAffine(8, translate=(0.2, 0.2), scale=(0.2, 0.8), interpolation=_BILINEAR),
    ]
    colour = [
        v2.ColorJitter(brightness=0.1, hue=0.02),
        v2.GaussianBlur(3, sigma=(0.1, 0.4)),
        v2.RandomAdjustSharpness(1.2, p=0.5),
    ]
    return v2.Compose(
        [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), v2.RandomApply(geometry), v2.RandomApply(colour)]
    )
