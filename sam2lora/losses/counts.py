"""What the losses share: one check of the shapes and the soft confusion counts of each image."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class SoftCounts(NamedTuple):
    """Sums of probabilities over the pixels of each image, each (N,)."""

    true_positive: Tensor
    false_negative: Tensor
    false_positive: Tensor


def aligned(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both (N, 1, H, W) in float32, or in float64 if the logits are: a sum over an image needs more than 8 bits.

    Raises ``ValueError`` if the shapes differ: broadcasting would compare every image with every mask.
    """
    if logits.shape != target.shape or logits.ndim != 4 or logits.shape[1] != 1:
        raise ValueError(
            f"Logits and target must both be (N, 1, H, W), but are {tuple(logits.shape)} and {tuple(target.shape)}: "
            f"resize one to the other, or add the missing axis."
        )
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return logits.to(dtype), target.to(dtype)


def soft_counts(logits: Tensor, target: Tensor) -> SoftCounts:
    """Soft true positives, false negatives and false positives of each image, for p = sigmoid(logits).

    The complement is ``sigmoid(-logits)`` and not ``1 - p``, so that small errors keep their digits.
    """
    logits, target = (tensor.flatten(1) for tensor in aligned(logits, target))
    p, q = logits.sigmoid(), (-logits).sigmoid()
    return SoftCounts(*(torch.linalg.vecdot(*pair) for pair in ((p, target), (q, target), (p, 1 - target))))


@torch.no_grad()
def thresholded_iou(logits: Tensor, target: Tensor) -> Tensor:
    """The IoU (N,) of the masks that (N, 1, H, W) logits > 0 say; 1 where both masks are empty. Has no gradient."""
    logits, target = aligned(logits, target)
    predicted, true = logits > 0, target > 0.5
    both, either = (predicted & true).sum((1, 2, 3)), (predicted | true).sum((1, 2, 3))
    return torch.where(either > 0, both / either.clamp(min=1), 1.0).to(logits.dtype)
