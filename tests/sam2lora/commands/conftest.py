"""A training of seconds, as options and as the settings behind them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sam2lora import train
from sam2lora.adapters import LoRA
from sam2lora.augments import Flips
from sam2lora.backbones import Nano
from sam2lora.config import TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.optimizers import AdamW
from sam2lora.protocols import Transfer
from sam2lora.settings import write_settings

TINY = TrialConfig(
    protocol=Transfer(
        sources=(Synthetic(hospital="alder", images=14, size=96),),
        targets=(Synthetic(hospital="cedar", images=4, size=96),),
    ),
    backbone=Nano(),
    adapters=(LoRA(rank=2, alpha=4.0),),
    optimizer=AdamW(lr=3e-3),
    augment=Flips(),
    image_size=64,
    epochs=2,
)


@pytest.fixture(scope="session")
def tiny() -> TrialConfig:
    """Two training images a step at 64 pixels, two epochs, one target."""
    return TINY


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def home(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands run in a folder of their own, with one cache for all."""
    monkeypatch.setenv("SAM2LORA_CACHE", str(cache))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The folder of a finished training of one epoch. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained")
    settings = folder / "settings.json"
    settings.write_text(write_settings(replace(TINY, epochs=1)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAM2LORA_CACHE", str(cache))
        assert train.main(["--config", str(settings), "--out", str(folder / "run"), "--threads", "1"]) == 0
    return folder / "run"
