"""No adapter: the floor that every adapter has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from sam2lora.adapters.low_rank import check_names
from sam2lora.backbones import Backbone
from sam2lora.choice import choice
from sam2lora.model import Segmenter


@choice
class Frozen:
    """The segmenter as it is: zero trainable parameters, so there is nothing to optimise."""

    kind: Literal["frozen"] = "frozen"

    def attach(self, segmenter: Segmenter, generator: torch.Generator) -> None:
        """Freeze every parameter of ``segmenter``; draws nothing from ``generator``."""
        segmenter.requires_grad_(False)

    def count(self, backbone: Backbone) -> int:
        """Zero."""
        return 0

    def share(self, backbone: Backbone) -> float:
        """Zero."""
        return 0.0

    def state(self, segmenter: Segmenter) -> dict[str, Tensor]:
        """No tensors."""
        return {}

    def load(self, segmenter: Segmenter, tensors: Mapping[str, Tensor]) -> None:
        """Accept no tensors and refuse any other number of them (``CheckpointError``)."""
        check_names({}, tensors)
