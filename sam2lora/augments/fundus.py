"""Our default: what differs between two photographs of one eye, and a little of what differs between cameras."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Le
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from sam2lora.augments.seeded import apply
from sam2lora.choice import choice


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
        """``image`` (3, S, S) uint8 and ``mask`` (S, S) uint8 in {0, 1}, changed alike; colour of the image only."""
        return apply(self._transform(), image, mask, seed)

    def _transform(self) -> v2.Transform:
        return v2.Compose([
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.RandomAffine(
                self.degrees,
                scale=(1 - self.scale, 1 + self.scale),
                interpolation=v2.InterpolationMode.BILINEAR,
            ),
            _Colour(self),
        ])


class _Colour(v2.Transform):
    """Gamma, brightness, contrast and hue in one pass; black stays black, so that padding stays padding.

    torchvision's own jitter blends towards the mean, which lifts the black border, and turns the hue by way of HSV,
    which takes five times as long as the rotation of the colour space about the grey axis that is used here.
    """

    _transformed_types = (tv_tensors.Image,)

    def __init__(self, ranges: Fundus) -> None:
        super().__init__()
        self._ranges = ranges

    def make_params(self, flat_inputs: list[object]) -> dict[str, float]:
        brightness, contrast, gamma, hue = (2 * torch.rand(4) - 1).tolist()
        ranges = self._ranges
        return {
            "brightness": 1 + ranges.brightness * brightness,
            "contrast": 1 + ranges.contrast * contrast,
            "gamma": (1 + ranges.gamma) ** gamma,
            "angle": 2 * math.pi * ranges.hue * hue,
        }

    def transform(self, inpt: Tensor, params: dict[str, float]) -> Tensor:
        pixels = inpt.as_subclass(Tensor)
        light = torch.linspace(0, 1, 256).pow(params["gamma"]) * params["brightness"]
        counts = torch.bincount(pixels.flatten().int(), minlength=256)[1:]
        mean = (light[1:] * counts).sum() / counts.sum().clamp(min=1)
        table = 255 * (mean + params["contrast"] * (light - mean))
        table[0] = 0.0
        turned = _turn(params["angle"]) @ table[pixels.flatten(1).int()]
        return tv_tensors.wrap(turned.round_().clamp_(0, 255).to(torch.uint8).reshape(pixels.shape), like=inpt)


def _turn(angle: float) -> Tensor:
    """The 3 x 3 rotation by ``angle`` (radians) about the grey axis of RGB space (Rodrigues' formula)."""
    third, root = (1 - math.cos(angle)) / 3, math.sin(angle) / math.sqrt(3)
    same, left, right = math.cos(angle) + third, third - root, third + root
    return torch.tensor([[same, left, right], [right, same, left], [left, right, same]])
