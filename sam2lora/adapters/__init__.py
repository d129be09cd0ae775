"""Adapters: what is trained on top of the frozen segmenter. A trial has none, one or several of them.

Every choice says which ``sites(backbone)`` of a segmenter it takes, and can ``place`` itself on an `Attachment`, from
which all else follows: what trains, how much that is, its state, and a segmenter that is as it was afterwards.
"""

from typing import Annotated

from pydantic import Field

from sam2lora.adapters.attachment import WHOLE, Attachment, Part, Placeable, Site, count, share
from sam2lora.adapters.blocks import AllBlocks, Blocks, GlobalBlocks, LastBlocks, Stages
from sam2lora.adapters.full import Full
from sam2lora.adapters.lora import LoRA
from sam2lora.adapters.low_rank import LoRALinear, LowRank, merge, merged, unmerge
from sam2lora.adapters.packed import NoPackForm, PackForm

Adapter = Annotated[LoRA | Full, Field(discriminator="kind")]

__all__ = [
    "WHOLE",
    "Adapter",
    "AllBlocks",
    "Attachment",
    "Blocks",
    "Full",
    "GlobalBlocks",
    "LastBlocks",
    "LoRA",
    "LoRALinear",
    "LowRank",
    "NoPackForm",
    "PackForm",
    "Part",
    "Placeable",
    "Site",
    "Stages",
    "count",
    "merge",
    "merged",
    "share",
    "unmerge",
]
