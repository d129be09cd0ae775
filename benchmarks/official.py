"""SAM 2 as its own package makes it, for the sides that the harness is compared with."""

from __future__ import annotations

from typing import Any

from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.transformer import Attention
from torch import nn

from sam2lora.backbones import Hiera, architecture
from sam2lora.models.build import build
from sam2lora.models.cpu_decoder import FewKeys, Planes
from sam2lora.runtime import Runtime


def official(backbone: Hiera, image_size: int, runtime: Runtime) -> Any:
    """The ``SAM2Base`` of ``backbone``, frozen, with weights, as Meta's package builds it."""
    sam: Any = build(backbone, image_size, runtime).sam
    sam.image_encoder.neck.position_encoding = PositionEmbeddingSine(architecture(backbone).width, warmup_cache=False)
    theirs: dict[type[nn.Module], type[nn.Module]] = {FewKeys: Attention, Planes: nn.ConvTranspose2d}
    for module in sam.modules():
        module.__class__ = theirs.get(type(module), type(module))  # ours add a forward pass and nothing else
    return sam
