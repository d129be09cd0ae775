"""Binary cross entropy."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Gt
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from sam2lora.choice import choice
from sam2lora.losses.counts import aligned


@choice
class BCE:
    """Mean over the pixels of ``-w y log p - (1 - y) log(1 - p)`` with p = sigmoid(logits) and w = ``pos_weight``.

    Computed from the logits, so it stays finite (and linear in the logit) for arbitrarily wrong predictions, where an
    epsilon inside the logarithm would flatten it and lose the gradient.
    """

    kind: Literal["bce"] = "bce"
    pos_weight: Annotated[float, Gt(0)] = 1.0

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """(N, 1, H, W) logits and mask -> (N,) mean cross entropy in nats, from 0 upwards."""
        logits, target = aligned(logits, target)
        weight = None if self.pos_weight == 1 else logits.new_full((), self.pos_weight)
        pixels = binary_cross_entropy_with_logits(logits, target, pos_weight=weight, reduction="none")
        return pixels.mean((1, 2, 3))
