"""How far SAM 2's quality head is off: a term beside the segmentation loss, not a member of its mixture."""

from __future__ import annotations

import torch
from torch import Tensor

from sam2lora.losses.counts import aligned


def quality_error(quality: Tensor, logits: Tensor, target: Tensor) -> Tensor:
    """``|predicted IoU - IoU|`` (N,) for ``quality`` (N, 1) in [0, 1] and (N, 1, H, W) logits and mask.

    The IoU is that of the thresholded mask, logits > 0: what the head was pretrained to predict (Kirillov et al. 2023,
    SAM) and what a user of its figure gets. It is a constant, so the gradient flows through the prediction alone;
    a soft IoU would also move the mask towards what the head believes of it. The IoU of two empty masks is 1.
    """
    logits, target = aligned(logits, target)
    with torch.no_grad():
        found, true = logits > 0, target > 0.5
        both = (found & true).sum((1, 2, 3))
        either = (found | true).sum((1, 2, 3))
        iou = torch.where(either > 0, both / either.clamp(min=1), 1.0)
    return (quality[:, 0].to(logits.dtype) - iou.to(logits.dtype)).abs()
