"""Centreline Dice."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.nn.functional import max_pool2d

from sam2lora.choice import choice
from sam2lora.losses.counts import aligned


@choice
class ClDice:
    """``1 - 2 T_p T_s / (T_p + T_s)`` on soft skeletons (Shit et al. 2021, algorithms 1 and 2), for each image.

    ``T_p = (|S(p) y| + s) / (|S(p)| + s)`` is the share of the predicted skeleton that lies in the mask,
    ``T_s = (|S(y) p| + s) / (|S(y)| + s)`` the share of the mask's skeleton that was found; s = ``smooth`` in pixels.
    A lost bridge of one pixel costs more than a ragged border: what is measured is connectivity, not area.

    ``iterations`` peels: at least half the width in pixels of the widest structure, or that structure's
    skeleton stays empty and cannot be missed. Every iteration costs three poolings over the image.
    Empty mask and empty prediction: 0. A mask that fills the image has no skeleton: 0 for any flat prediction.
    """

    kind: Literal["cldice"] = "cldice"
    iterations: Annotated[int, Ge(1)] = 5
    smooth: Annotated[float, Gt(0)] = 1.0

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """(N, 1, H, W) logits and mask -> (N,) loss in [0, 1)."""
        logits, target = aligned(logits, target)
        p = logits.sigmoid()
        precision = self._share(soft_skeleton(p, self.iterations), target)
        sensitivity = self._share(soft_skeleton(target, self.iterations), p)
        return 1 - 2 * precision * sensitivity / (precision + sensitivity)

    def _share(self, skeleton: Tensor, region: Tensor) -> Tensor:
        pixels = (1, 2, 3)
        return ((skeleton * region).sum(pixels) + self.smooth) / (skeleton.sum(pixels) + self.smooth)


def soft_skeleton(image: Tensor, iterations: int) -> Tensor:
    """The soft skeleton (N, 1, H, W) of values in [0, 1]: what openings remove while the image is peeled.

    A line one pixel wide is its own skeleton. Where several maxima tie, the gradient goes to one of them.
    """
    skeleton = torch.zeros_like(image)
    for _ in range(iterations + 1):
        peeled = _eroded(image)
        ridge = (image - max_pool2d(peeled, 3, 1, 1)).relu()  # what an opening cannot give back
        skeleton = skeleton + (1 - skeleton) * ridge
        image = peeled
    return skeleton


def _eroded(image: Tensor) -> Tensor:
    """The minimum over the cross of five pixels around each pixel, as far as the image goes."""
    rows = -max_pool2d(-image, (3, 1), 1, (1, 0))
    columns = -max_pool2d(-image, (1, 3), 1, (0, 1))
    return rows.minimum(columns)
