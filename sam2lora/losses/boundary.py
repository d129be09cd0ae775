"""Boundary difference over union."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Gt
from torch import Tensor
from torch.nn.functional import max_pool2d, pad

from sam2lora.choice import choice
from sam2lora.losses.counts import aligned

_LARGEST = 0.8  # Sun et al. 2023, section 2.2: beyond it the loss is too flat to learn from


@choice
class Boundary:
    """``sum (p - y)^2 / (sum p^2 + sum y^2 - (1 + a) sum p y + s)``, the boundary DoU loss (Sun et al. 2023, eq. 3).

    ``a = min(0.8, 1 - 2 C / S)`` for a mask of S pixels of which C touch the background: the larger the mask against
    its outline, the more the interior that is already right is discounted, and the more the outline counts.
    a = -1 (a mask that is all outline, such as thin vessels) is the squared Dice loss; a = 0 is one minus the Tanimoto
    coefficient. Squares of p replace p in union and intersection, as in the authors' implementation.

    Preferred to the distance-map loss of Kervadec et al. (2019): that one is unbounded and negative for good
    predictions, so its weight against a loss in [0, 1] means something else for every mask, and it needs a
    distance transform on the host for every batch.

    ``smooth`` s, in pixels, stands in the denominator alone, so that an empty mask with an empty prediction costs 0
    (the authors add it to the numerator too: 1). Pixels outside the image count as background.
    """

    kind: Literal["boundary"] = "boundary"
    smooth: Annotated[float, Gt(0)] = 1.0

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """(N, 1, H, W) logits and mask -> (N,) loss in [0, 1)."""
        logits, target = aligned(logits, target)
        return difference_over_union(logits.sigmoid(), target, discount(target), self.smooth)


def difference_over_union(p: Tensor, target: Tensor, a: Tensor | float, smooth: float) -> Tensor:
    """The loss (N,) for probabilities p and a given discount ``a`` (N,) of the intersection, -1 <= a < 1."""
    pixels = (1, 2, 3)
    union = p.square().sum(pixels) + target.square().sum(pixels) - (1 + a) * (p * target).sum(pixels)
    return (p - target).square().sum(pixels) / (union + smooth)


def discount(target: Tensor) -> Tensor:
    """``a`` of each mask (N, 1, H, W): (N,) in [-1, 0.8]. An empty mask gives 0.8, which its loss does not use."""
    pixels = (1, 2, 3)
    area = target.sum(pixels)
    outline = (target * _touches_background(target)).sum(pixels)
    return (1 - 2 * outline / area.clamp_min(1)).clamp_max(_LARGEST)


def _touches_background(target: Tensor) -> Tensor:
    """1 where the cross of five pixels around a pixel holds background; outside the image is background."""
    background = pad(1 - target, (1, 1, 1, 1), value=1.0)
    rows = max_pool2d(background[..., 1:-1], (3, 1), 1)
    columns = max_pool2d(background[..., 1:-1, :], (1, 3), 1)
    return rows.maximum(columns)
