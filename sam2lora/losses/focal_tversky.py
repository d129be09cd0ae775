"""Focal Tversky."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from sam2lora.choice import choice
from sam2lora.losses.counts import soft_counts


@choice
class FocalTversky:
    """``(1 - TI) ** gamma`` with ``TI = (TP + s) / (TP + alpha FN + (1 - alpha) FP + s)``, soft counts of each image.

    ``alpha`` weighs missed pixels (FN), ``1 - alpha`` false ones (FP): alpha > 0.5 asks for sensitivity.
    ``gamma`` is the exponent itself. Abraham and Khan (2019, eq. 4) write ``(1 - TI) ** (1 / gamma)`` with
    gamma = 4/3, which is ``gamma=0.75`` here; some libraries swap the roles of alpha and beta as well.
    ``smooth`` s is in pixels; alpha = 0.5, gamma = 1 and smooth s is ``SoftDice(smooth=2 * s)``.

    With gamma < 1 the slope at a perfect prediction is infinite in TI, though not in the logits: there
    both the loss and its gradient are exactly 0. Empty mask and empty prediction: 0.
    """

    kind: Literal["focal_tversky"] = "focal_tversky"
    alpha: Annotated[float, Ge(0), Le(1)] = 0.7
    gamma: Annotated[float, Gt(0)] = 0.75
    smooth: Annotated[float, Gt(0)] = 1.0

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """(N, 1, H, W) logits and mask -> (N,) loss in [0, 1)."""
        tp, fn, fp = soft_counts(logits, target)
        missed = self.alpha * fn + (1 - self.alpha) * fp
        return _power(missed / (tp + missed + self.smooth), self.gamma)


def _power(x: Tensor, exponent: float) -> Tensor:
    """``x ** exponent`` for x >= 0, with gradient 0 instead of infinity (times 0: NaN) where x vanishes."""
    positive = x > torch.finfo(x.dtype).tiny
    return torch.where(positive, torch.where(positive, x, 1) ** exponent, 0)
