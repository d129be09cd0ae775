"""BASE: the settings that a training and every shipped search start from, on the procedural hospitals."""

from __future__ import annotations

from sam2lora.adapters import LoRA
from sam2lora.config import TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.optimizers import AdamW
from sam2lora.protocols import Transfer

BASE = TrialConfig(
    protocol=Transfer(
        sources=(Synthetic(hospital="dogwood"), Synthetic(hospital="elm")),
        targets=tuple(Synthetic(hospital=hospital, images=8) for hospital in ("alder", "birch", "cedar", "fir")),
    ),
    adapters=(LoRA(rank=8, alpha=16.0),),
    optimizer=AdamW(lr=2e-3),
    image_size=192,
    epochs=6,
)
