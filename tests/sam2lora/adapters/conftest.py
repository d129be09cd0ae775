"""Small segmenters, images and adapters of the adapters' tests."""

from collections.abc import Callable

import pytest
import torch

from sam2lora.adapters import Attachment, LoRA
from sam2lora.backbones import Nano
from sam2lora.models.build import build
from sam2lora.models.segmenter import Segmenter
from sam2lora.runtime import Runtime

Build = Callable[[], Segmenter]


@pytest.fixture
def fresh() -> Build:
    """Builds nano with random weights for 64-pixel images, each time anew."""
    return lambda: build(Nano(weights="random"), 64, Runtime())


@pytest.fixture
def images() -> torch.Tensor:
    """Three random images (3, 3, 64, 64)."""
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def attach() -> Callable[[Segmenter, LoRA], Segmenter]:
    """Attaches an adapter with the seed 0 and returns the segmenter."""

    def attached(segmenter: Segmenter, adapter: LoRA) -> Segmenter:
        Attachment(segmenter, (adapter,))
        return segmenter

    return attached


@pytest.fixture
def trained(attach: Callable[[Segmenter, LoRA], Segmenter]) -> Callable[[Segmenter, LoRA], Segmenter]:
    """Attaches an adapter and gives every B random values, as after training."""

    def adapted(segmenter: Segmenter, adapter: LoRA) -> Segmenter:
        generator = torch.Generator().manual_seed(7)
        for name, parameter in attach(segmenter, adapter).named_parameters():
            if name.endswith(".B"):
                parameter.data.normal_(std=0.05, generator=generator)
        return segmenter

    return adapted
