"""Our default: what differs between two photographs of one eye, and a little of what differs between cameras."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor
from torchvision.transforms import v2

from sam2lora.augments.seeded import apply
from sam2lora.choice import choice
from sam2lora.transfers import to_device


@choice
class Fundus:
    """Flips, a small turn and change of scale, then brightness, contrast, gamma and hue.

    ``degrees``: largest turn to either side. ``scale``: largest relative change of size. ``brightness``,
    ``contrast``: largest relative change. ``gamma``: the exponent lies in [1 / (1 + gamma), 1 + gamma]. ``hue``:
    largest change as a share of the colour circle. What a turn brings in from outside is 0, as the padding is.
    """

    kind: Literal["fundus"] = "fundus"
    degrees: Annotated[float, Ge(0), Le(180)] = 15.0
    scale: Annotated[float, Ge(0), Le(0.5)] = 0.1
    brightness: Annotated[float, Ge(0), Le(1)] = 0.2
    contrast: Annotated[float, Ge(0), Le(1)] = 0.2
    gamma: Annotated[float, Ge(0), Le(2)] = 0.2
    hue: Annotated[float, Ge(0), Le(0.5)] = 0.02

    def __call__(self, image: Tensor, mask: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """``image`` (3, S, S) uint8 and ``mask`` (S, S) uint8 in {0, 1}, moved alike; the image is recoloured, too."""
        image, mask = apply(self._geometry(), image, mask, seed)
        return self._recoloured(image, np.random.default_rng([seed, 1])), mask

    def _geometry(self) -> v2.Transform:
        bilinear = v2.InterpolationMode.BILINEAR
        scale = (1 - self.scale, 1 + self.scale)
        return v2.Compose(
            [
                v2.RandomHorizontalFlip(),
                v2.RandomVerticalFlip(),
                v2.RandomAffine(self.degrees, scale=scale, interpolation=bilinear),
            ]
        )

    def _recoloured(self, image: Tensor, rng: np.random.Generator) -> Tensor:
        """Gamma, brightness, contrast and hue in one pass; black stays black, so that padding stays padding.

        torchvision's own jitter blends towards the mean, which lifts the black border, and turns the hue by way of
        HSV, which takes five times as long as the rotation of colour space about the grey axis that is used here.
        """
        brightness, contrast, gamma, hue = rng.uniform(-1, 1, 4).tolist()
        light = torch.linspace(0, 1, 256, device=image.device).pow((1 + self.gamma) ** gamma) * (
            1 + self.brightness * brightness
        )
        counts = _counts(image[:, ::4, ::4])[1:]  # every 16th pixel will do
        mean = (light[1:] * counts).sum() / counts.sum().clamp(min=1)
        table = 255 * (mean + (1 + self.contrast * contrast) * (light - mean))
        table[0].zero_()
        pixels = torch.index_select(table, 0, image.flatten().int()).view(3, -1)
        colours = to_device(_turn(2 * math.pi * self.hue * hue), image.device) @ pixels
        return colours.clamp_(0, 255).add_(0.5).to(torch.uint8).view(image.shape)


def _counts(values: Tensor) -> Tensor:
    """How often each of the 256 values of uint8 occurs, (256,). A GPU is not waited for, as ``bincount`` does."""
    places = values.flatten().long()
    return torch.zeros(256, dtype=torch.long, device=places.device).scatter_add_(0, places, torch.ones_like(places))


def _turn(angle: float) -> Tensor:
    """The 3 x 3 rotation by ``angle`` (radians) about the grey axis of RGB space (Rodrigues' formula)."""
    third, root = (1 - math.cos(angle)) / 3, math.sin(angle) / math.sqrt(3)
    same, left, right = math.cos(angle) + third, third - root, third + root
    return torch.tensor([[same, left, right], [right, same, left], [left, right, same]])
