"""Adapters: what is trained on top of the frozen segmenter.

Every choice can ``attach(segmenter, generator)``, ``count(backbone)`` its trainable parameters without weights, and
give (``state``) and take (``load``) the tensors that it trained.
"""

from typing import Annotated

from pydantic import Field

from sam2lora.adapters.blocks import AllBlocks, Blocks, GlobalBlocks, LastBlocks, Stages
from sam2lora.adapters.frozen import Frozen
from sam2lora.adapters.full import Full
from sam2lora.adapters.lora import LoRA
from sam2lora.adapters.low_rank import LoRALinear, LowRank, detach, merge, merged, unmerge

Adapter = Annotated[LoRA | Full | Frozen, Field(discriminator="kind")]

__all__ = [
    "Adapter",
    "AllBlocks",
    "Blocks",
    "Frozen",
    "Full",
    "GlobalBlocks",
    "LastBlocks",
    "LoRA",
    "LoRALinear",
    "LowRank",
    "Stages",
    "detach",
    "merge",
    "merged",
    "unmerge",
]
