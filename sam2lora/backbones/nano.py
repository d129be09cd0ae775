"""Nano: a SAM 2 of the same classes, small enough for a CPU."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice

SHIPPED = Path(__file__).parents[1] / "weights" / "nano.safetensors"
"""The weights that ``python -m sam2lora.pretrain`` made; the file beside it of the same name says how."""


@choice
class Nano:
    """A SAM 2 of 1.2 M parameters with patch stride 2: one LoRA step of two 256-pixel images is a fraction of a second.

    ``weights``: ``"shipped"`` are the ones of ``sam2lora/weights``, trained on procedural images alone (see
    ``sam2lora.pretrain``): they find thin dark curves without a prompt, and the structure under points or in a box.
    ``"random"`` are drawn from a fixed seed; LoRA alone makes little of them.
    """

    takes_prompts: ClassVar[bool] = True
    guesses_iou: ClassVar[bool] = True
    trained_whole: ClassVar[bool] = False
    why_alone: ClassVar[str | None] = None
    title: ClassVar[str] = "nano"
    hub_id: ClassVar[str | None] = None
    official_config: ClassVar[str | None] = None
    kind: Literal["nano"] = "nano"
    weights: Literal["shipped", "random"] = "shipped"

    @property
    def weights_sha256(self) -> str | None:
        """The digest of `SHIPPED`."""
        return _shipped_sha256() if self.weights == "shipped" else None


@cache
def _shipped_sha256() -> str:
    return str(json.loads(SHIPPED.with_suffix(".json").read_text())["sha256"])
