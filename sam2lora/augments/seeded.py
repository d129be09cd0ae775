"""A torchvision transform that depends on one seed and on nothing else."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2


def apply(transform: v2.Transform, image: Tensor, mask: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Transform ``image`` (3, S, S) uint8 and ``mask`` (S, S) uint8 alike, with the randomness of ``seed``.

    The transforms of torchvision draw from torch's global CPU generator: it is seeded here and set back, so that
    neither the order of images nor the number of workers changes a result. CUDA generators are not touched.
    """
    generator = torch.default_generator
    before = generator.get_state()
    try:
        generator.manual_seed(seed)
        new_image, new_mask = transform(tv_tensors.Image(image), tv_tensors.Mask(mask[None]))
    finally:
        generator.set_state(before)
    return new_image.as_subclass(Tensor), new_mask.as_subclass(Tensor)[0]
