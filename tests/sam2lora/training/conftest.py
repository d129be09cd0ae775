"""A trial that trains in a second."""

from __future__ import annotations

import pytest

from sam2lora.adapters import LoRA
from sam2lora.augments import NoAugment
from sam2lora.backbones import Nano
from sam2lora.config import TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.optimizers import SGD
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def tiny() -> TrialConfig:
    """One source of 18 images at 64 pixels, without dropout and augmentation; one epoch."""
    return TrialConfig(
        protocol=Transfer(sources=(Synthetic(hospital="alder", images=18, size=64),)),
        backbone=Nano(weights="random"),
        adapters=(LoRA(rank=2, alpha=4.0, dropout=0.0),),
        optimizer=SGD(lr=0.1),
        augment=NoAugment(),
        image_size=64,
        epochs=1,
    )
