"""Full fine-tuning: what adapters are cheaper than, and how a U-Net is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from sam2lora.adapters.low_rank import check_names, lora_layers
from sam2lora.backbones import Backbone
from sam2lora.choice import choice
from sam2lora.model import Segmenter, parameters, shapes


@choice
class Full:
    """Every parameter of the image path is trained: trunk, neck, prompt encoder and decoder, or the whole U-Net.

    BatchNorm, which only a U-Net has, follows the training batches, so its statistics are part of what was trained.
    A trial's learning rate should be far below LoRA's for SAM 2.
    """

    kind: Literal["full"] = "full"

    def attach(self, segmenter: Segmenter, generator: torch.Generator) -> None:
        """Make exactly the image path trainable; draws nothing from ``generator``. ``ValueError`` on an adapted one."""
        if lora_layers(segmenter):
            raise ValueError("A segmenter takes one adapter, but it has one already: build a new segmenter.")
        segmenter.requires_grad_(False)
        for parameter in segmenter.image_path().values():
            parameter.requires_grad_(True)

    def count(self, backbone: Backbone) -> int:
        """Trainable parameters. Needs no weights."""
        return sum(parameter.numel() for parameter in shapes(backbone).image_path().values())

    def share(self, backbone: Backbone) -> float:
        """Trainable parameters over those of the whole model: 1 for a U-Net."""
        return self.count(backbone) / parameters(backbone)

    def state(self, segmenter: Segmenter) -> dict[str, Tensor]:
        """The trained tensors and BatchNorm's statistics by name, copied to the CPU, fit for safetensors."""
        return {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in _own(segmenter).items()
        }

    def load(self, segmenter: Segmenter, tensors: Mapping[str, Tensor]) -> None:
        """Copy what ``state`` gave. ``CheckpointError`` if names or shapes differ."""
        own = _own(segmenter)
        check_names(own, tensors)
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(tensors[name])


def _own(segmenter: Segmenter) -> dict[str, Tensor]:
    return {**segmenter.image_path(), **segmenter.statistics()}
