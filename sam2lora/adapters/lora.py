"""LoRA in image encoder and mask decoder: SAM2LoRA, and its neighbours to compare it with."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Annotated, Literal, Self

import torch
from annotated_types import Ge, Gt, Lt
from pydantic import model_validator
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn

from sam2lora.adapters.blocks import AllBlocks, Blocks
from sam2lora.adapters.low_rank import LoRALinear, LowRank, check_names, lora_layers
from sam2lora.backbones import Backbone, LinearShape, UNet, architecture, linears
from sam2lora.choice import choice
from sam2lora.model import Sam2Segmenter, Segmenter, parameters

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
_NO_LAYERS = "LoRA adapts the Linear layers of a SAM 2, but the backbone is a U-Net: use Full()."


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
            raise ValueError("LoRA must adapt the encoder or the decoder, but both are 'none': use Frozen()")
        return self

    @property
    def factor(self) -> float:
        """The scale s of the update."""
        return self.alpha / (self.rank if self.scale == "standard" else math.sqrt(self.rank))

    def targets(self, backbone: Backbone) -> list[LinearShape]:
        """The Linear layers that are adapted, in the order of the forward pass. A U-Net raises ``ValueError``."""
        if isinstance(backbone, UNet):
            raise ValueError(_NO_LAYERS)
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

    def count(self, backbone: Backbone) -> int:
        """Trainable parameters: rank times the sum of inputs and outputs over the targets. Needs no weights."""
        widths: int = sum(
            linear.inputs + rows.stop - rows.start
            for linear in self.targets(backbone)
            for rows in self.rows(linear).values()
        )
        return self.rank * widths

    def share(self, backbone: Backbone) -> float:
        """Trainable parameters over those of the whole frozen model: 0.0343 for the large one at rank 64."""
        return self.count(backbone) / parameters(backbone)

    def attach(self, segmenter: Segmenter, generator: torch.Generator) -> None:
        """Put the updates into ``segmenter`` in place; exactly their parameters become trainable.

        ``generator`` gives one number. The initial A of a layer depends on it, on the layer's name and on the
        settings of A alone, so that two sets of targets start equal where they overlap. A segmenter takes one adapter
        (``ValueError``).
        """
        if lora_layers(segmenter):
            raise ValueError("A segmenter takes one adapter, but it has one already: build a new segmenter.")
        sam, targets = _sam(segmenter), self.targets(segmenter.backbone)
        segmenter.requires_grad_(False)
        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        for target in targets:
            linear = sam.get_submodule(target.name)
            assert isinstance(linear, nn.Linear)
            sam.set_submodule(target.name, self._adapted(linear, target, seed))

    def state(self, segmenter: Segmenter) -> dict[str, Tensor]:
        """The trained tensors by name, copied to the CPU, fit for safetensors."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self._own(segmenter).items()}

    def load(self, segmenter: Segmenter, tensors: Mapping[str, Tensor]) -> None:
        """Copy what ``state`` gave into an attached adapter. ``CheckpointError`` if names or shapes differ."""
        own = self._own(segmenter)
        check_names(own, tensors)
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(tensors[name])

    def _own(self, segmenter: Segmenter) -> dict[str, nn.Parameter]:
        return {
            f"{layer}.{name}": parameter
            for layer, module in lora_layers(_sam(segmenter)).items()
            for name, parameter in module.named_parameters()
            if name.startswith("lora.")
        }

    def rows(self, linear: LinearShape) -> dict[str, slice]:
        """The updated output channels of a target, by the name of their update.

        Hiera's qkv is dim -> 3 * dim_out, so its thirds follow from the outputs.
        """
        if linear.role != "qkv" or self.encoder != "qv":
            return {"whole": slice(0, linear.outputs)}
        third = linear.outputs // 3
        return {"q": slice(0, third), "v": slice(2 * third, linear.outputs)}

    def _adapted(self, linear: nn.Linear, target: LinearShape, seed: int) -> LoRALinear:
        rows = self.rows(target)
        parts = {
            part: LowRank(
                self._first(target.inputs, f"{seed} {target.name} {part}").to(linear.weight),
                span.stop - span.start,
                self.factor,
                self.dropout,
                self.dropout_site,
            )
            for part, span in rows.items()
        }
        return LoRALinear(linear, parts, rows)

    def _first(self, inputs: int, name: str) -> Tensor:
        """The initial A (rank, inputs), a function of ``name`` and the settings of A."""
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        own = torch.Generator().manual_seed(seed)
        if self.init == "normal":
            return torch.randn(self.rank, inputs, generator=own) / math.sqrt(self.rank)
        return (2 * torch.rand(self.rank, inputs, generator=own) - 1) / math.sqrt(inputs)


def _sam(segmenter: Segmenter) -> SAM2Base:
    if not isinstance(segmenter, Sam2Segmenter):
        raise ValueError(_NO_LAYERS)
    return segmenter.sam
