"""Soft Dice."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Gt
from torch import Tensor

from sam2lora.choice import choice
from sam2lora.losses.counts import soft_counts


@choice
class SoftDice:
    """``1 - (2 TP + s) / (2 TP + FN + FP + s)`` with soft counts of each image and s = ``smooth``.

    Probabilities enter with exponent 1: ``2 TP + FN + FP = sum p + sum y`` (Milletari et al. 2016 square them).
    ``smooth`` is in pixels. Empty mask and empty prediction: 0; empty mask and prediction of P pixels: P / (P + s).
    """

    kind: Literal["soft_dice"] = "soft_dice"
    smooth: Annotated[float, Gt(0)] = 1.0

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """(N, 1, H, W) logits and mask -> (N,) loss in [0, 1)."""
        tp, fn, fp = soft_counts(logits, target)
        missed = fn + fp  # one minus the ratio, written as a ratio: no cancellation near a perfect prediction
        return missed / (2 * tp + missed + self.smooth)
