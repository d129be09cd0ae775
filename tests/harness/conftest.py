"""A trial that takes a second, and a study to put it in."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler

from harness.record.study import Record, open_record
from sam2lora.adapters import LoRA
from sam2lora.augments import Flips
from sam2lora.backbones import Nano
from sam2lora.config import TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.optimizers import AdamW
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime

optuna.logging.set_verbosity(optuna.logging.WARNING)

QUESTION = {
    "search": "loss_weights",
    "sources": ["alder"],
    "targets": ["cedar"],
    "backbone": {"kind": "nano", "weights": "random"},
    "epochs": 3,
    "seed": 0,
}


@pytest.fixture
def tiny() -> TrialConfig:
    """Two training images a step at 64 pixels, three epochs."""
    return TrialConfig(
        protocol=Transfer(
            sources=(Synthetic(hospital="alder", images=14, size=64),),
            targets=(Synthetic(hospital="cedar", images=4, size=64),),
        ),
        backbone=Nano(weights="random"),
        adapters=(LoRA(rank=2, alpha=4.0),),
        optimizer=AdamW(lr=3e-3),
        augment=Flips(),
        image_size=64,
        epochs=3,
    )


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return open_record(f"sqlite:///{tmp_path / 'optuna.db'}", "study", tmp_path, QUESTION, RandomSampler(seed=0))
