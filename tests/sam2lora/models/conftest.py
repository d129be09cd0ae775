"""Small models and images of the model's tests."""

import pytest
import torch

from sam2lora.backbones import Nano
from sam2lora.models.build import build
from sam2lora.models.segmenter import Segmenter
from sam2lora.runtime import Runtime


@pytest.fixture
def images() -> torch.Tensor:
    """Three random images (3, 3, 64, 64), each exact in 8 bits."""
    whole = torch.randint(0, 256, (3, 3, 64, 64), generator=torch.Generator().manual_seed(1))
    return whole / 255


@pytest.fixture
def nano() -> Segmenter:
    """Nano with random weights for images of 64 pixels."""
    return build(Nano(weights="random"), 64, Runtime())
