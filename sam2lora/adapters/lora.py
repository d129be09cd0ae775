"""LoRA in image encoder and mask decoder: SAM2LoRA, and its neighbours to compare it with."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self

import torch
from annotated_types import Ge, Gt, Lt
from pydantic import model_validator
from torch import Tensor, nn

from sam2lora.adapters.attachment import Attachment, Site
from sam2lora.adapters.blocks import AllBlocks, Blocks
from sam2lora.adapters.low_rank import LoRALinear, LowRank
from sam2lora.adapters.packed import NoPackForm, PackForm
from sam2lora.adapters.packed_lora import PackedLoRA
from sam2lora.backbones import Backbone, LinearShape, architecture, linears
from sam2lora.choice import choice, digest

_ENCODER_ROLES = {
    "qkv": {"qkv"},
    "qv": {"qkv"},
    "proj": {"proj"},
    "mlp": {"mlp"},
    "all": {"qkv", "proj", "mlp", "shortcut"},
    "none": set[str](),
}
_DECODER_ROLES = {
    "attention": {"attention"},
    "qv": {"attention"},
    "mlp": {"token_mlp"},
    "all": {"attention", "token_mlp", "hypernetwork"},
    "none": set[str](),
}


@choice
class LoRA:
    """Low-rank adaptation ``y = W x + b + s B A x`` (Hu et al. 2021, arXiv 2106.09685) of SAM 2.

    The defaults are SAM2LoRA's (Mandal et al. 2025, arXiv 2510.10288), but for the rank, whose 64 keeps the largest
    backbone under 5 % trainable: ``qkv`` of every Hiera block, every attention projection of the mask decoder,
    ``alpha = 2 rank``, dropout 0.1 on the update, ``A ~ N(0, 1/rank)``, ``B = 0``.

    ``encoder``: Linear layers of the chosen ``blocks``: ``"qv"`` leaves the keys alone, ``"all"`` takes qkv, proj, mlp
    and the shortcuts between stages. ``decoder``: ``"qv"`` takes the query and value projections alone, ``"mlp"`` the
    token MLPs; ``"all"`` takes all attention, the token MLPs and the hyper-network of the mask in use. ``alpha``: the
    update is scaled by s = alpha / rank (``"standard"``) or alpha / sqrt(rank) (``"rank_stabilised"``, Kalajdzievski
    2023, arXiv 2312.03732); 0 turns it off. ``init`` ``"kaiming"`` draws A as peft does, uniform within
    +-1/sqrt(inputs).
    """

    mergeable: ClassVar[bool] = True
    kind: Literal["lora"] = "lora"
    encoder: Literal["qkv", "qv", "proj", "mlp", "all", "none"] = "qkv"
    decoder: Literal["attention", "qv", "mlp", "all", "none"] = "attention"
    blocks: Blocks = AllBlocks()
    rank: Annotated[int, Gt(0)] = 64
    alpha: Annotated[float, Ge(0)] = 128.0
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1
    dropout_site: Literal["output", "input"] = "output"
    init: Literal["normal", "kaiming"] = "normal"
    scale: Literal["standard", "rank_stabilised"] = "standard"

    @model_validator(mode="after")
    def _adapts_something(self) -> Self:
        if self.encoder == "none" and self.decoder == "none":
            raise ValueError("LoRA must adapt the encoder or the decoder, but both are 'none': leave the adapter out")
        return self

    @property
    def factor(self) -> float:
        """The scale s of the update."""
        return self.alpha / (self.rank if self.scale == "standard" else math.sqrt(self.rank))

    def targets(self, backbone: Backbone) -> list[LinearShape]:
        """The Linear layers that are adapted, in the order of the forward pass. A U-Net raises ``ValueError``."""
        shape = architecture(backbone)
        blocks = self.blocks.of(shape)
        return [
            linear
            for linear in linears(shape)
            if (linear.block in blocks and linear.role in _ENCODER_ROLES[self.encoder])
            or (linear.block is None and self._in_decoder(linear))
        ]

    def _in_decoder(self, linear: LinearShape) -> bool:
        chosen = linear.role in _DECODER_ROLES[self.decoder]
        return chosen and (self.decoder != "qv" or linear.name.endswith((".q_proj", ".v_proj")))

    def sites(self, backbone: Backbone) -> frozenset[Site]:
        """The layers of `targets`."""
        return frozenset(Site(target.name) for target in self.targets(backbone))

    def place(self, on: Attachment) -> None:
        """Put the updates onto a segmenter.

        The initial A of a layer depends on the seed, the layer's name and the settings of A alone, so that two sets of
        targets start equal where they overlap.
        """
        for target in self.targets(on.segmenter.backbone):
            linear = on.module(target.name)
            assert isinstance(linear, nn.Linear)
            on.swap(target.name, self._adapted(linear, target, on))

    def pack_form(self, backbone: Backbone) -> PackForm | NoPackForm:
        """The same layers, parts and site of dropout; all else may differ within a pack."""
        layers = [[linear.name, *self.rows(linear)] for linear in self.targets(backbone)]
        return PackForm(digest(layers, self.dropout_site), PackedLoRA)

    def rows(self, linear: LinearShape) -> dict[str, slice]:
        """The updated output channels of a target, by the name of their update.

        Hiera's qkv is dim -> 3 * dim_out, so its thirds follow from the outputs.
        """
        if linear.role != "qkv" or self.encoder != "qv":
            return {"whole": slice(0, linear.outputs)}
        third = linear.outputs // 3
        return {"q": slice(0, third), "v": slice(2 * third, linear.outputs)}

    def _adapted(self, linear: nn.Linear, target: LinearShape, on: Attachment) -> LoRALinear:
        rows = self.rows(target)
        parts = {
            part: LowRank(
                self._first(target.inputs, on.generator(f"{target.name} {part}")).to(linear.weight),
                span.stop - span.start,
                self.factor,
                self.dropout,
                self.dropout_site,
            )
            for part, span in rows.items()
        }
        return LoRALinear(linear, parts, rows)

    def _first(self, inputs: int, generator: torch.Generator) -> Tensor:
        """The initial A (rank, inputs)."""
        if self.init == "normal":
            return torch.randn(self.rank, inputs, generator=generator) / math.sqrt(self.rank)
        return (2 * torch.rand(self.rank, inputs, generator=generator) - 1) / math.sqrt(inputs)
