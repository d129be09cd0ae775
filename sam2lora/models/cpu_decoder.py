"""Two parts of SAM 2's mask decoder as a CPU runs them faster: the same weights, names and arithmetic up to rounding.

Elsewhere the official ones run.
"""

from __future__ import annotations

from typing import TypeVar, cast

import torch
from sam2.modeling.sam.mask_decoder import MaskDecoder
from sam2.modeling.sam.transformer import Attention
from torch import Tensor, nn

_Module = TypeVar("_Module", bound=nn.Module)


class FewKeys(Attention):
    """Attention of many positions to a handful of tokens.

    Torch's kernel takes one position after the other, with a softmax over six numbers; here every step runs along the
    positions, which takes a third of the time.
    """

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(N, positions, C) for ``q`` of that shape and ``k``, ``v`` (N, tokens, C)."""
        if q.device.type != "cpu":
            return cast(Tensor, super().forward(q, k, v))
        queries = self._separate_heads(self.q_proj(q), self.num_heads)
        keys = self._separate_heads(self.k_proj(k), self.num_heads)
        values = self._separate_heads(self.v_proj(v), self.num_heads)
        weights = (keys * keys.shape[-1] ** -0.5 @ queries.mT).softmax(-2)  # (N, heads, tokens, positions)
        found: Tensor = self.out_proj(self._recombine_heads(weights.mT @ values))
        return found


class Planes(nn.ConvTranspose2d):
    """A transposed convolution whose channels lie one after the other in memory, like the masks that come of them.

    Torch's own choice is channels last: then the gradient meets the next GELU's input in another order, which takes
    that function seven times as long.
    """

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """As ``nn.ConvTranspose2d``."""
        y = super().forward(x, output_size)
        return y.contiguous() if y.device.type == "cpu" else y


def use_cpu_kernels(decoder: MaskDecoder) -> None:
    """Put both parts in the place of the official ones. Draws no random numbers."""
    for layer in decoder.transformer.layers:
        few = layer.cross_attn_image_to_token
        with torch.device("meta"):
            own = FewKeys(few.embedding_dim, few.num_heads, few.embedding_dim // few.internal_dim)
        layer.cross_attn_image_to_token = _with_weights(own, few)
    upscaling = decoder.output_upscaling
    last = upscaling[3]
    with torch.device("meta"):
        planes = Planes(last.in_channels, last.out_channels, last.kernel_size, last.stride)
    upscaling[3] = _with_weights(planes, last)


def _with_weights(own: _Module, official: nn.Module) -> _Module:
    own.load_state_dict(official.state_dict(), assign=True)
    return own
