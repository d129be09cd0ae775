"""Focal loss."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le
from torch import Tensor
from torch.nn.functional import logsigmoid

from sam2lora.choice import choice
from sam2lora.losses.counts import aligned


@choice
class Focal:
    """Mean over the pixels of ``-alpha_t (1 - p_t) ** gamma log p_t`` (Lin et al. 2017, eq. 5).

    p_t is the probability of the true class; alpha_t is ``alpha`` on the mask and ``1 - alpha`` off it, so
    alpha = 0.5 and gamma = 0 is half the binary cross entropy.
    """

    kind: Literal["focal"] = "focal"
    alpha: Annotated[float, Ge(0), Le(1)] = 0.25
    gamma: Annotated[float, Ge(0)] = 2.0

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """(N, 1, H, W) logits and mask -> (N,) mean focal loss in nats, from 0 upwards."""
        logits, target = aligned(logits, target)
        margin = (2 * target - 1) * logits
        # A power of (1 - p_t) taken in the exponent: its gradient stays finite where 1 - p_t underflows.
        focus = (self.gamma * logsigmoid(-margin)).exp()
        alpha = self.alpha * target + (1 - self.alpha) * (1 - target)
        return -(alpha * focus * logsigmoid(margin)).mean((1, 2, 3))
