"""Nano: a SAM 2 of the same classes, small enough for a CPU."""

from __future__ import annotations

from typing import Literal

from sam2lora.choice import choice


@choice
class Nano:
    """A SAM 2 of 1.2 M parameters with patch stride 2: one LoRA step of two 256-pixel images is a fraction of a second.

    ``weights``: ``"shipped"`` are the ones of ``sam2lora/weights``, trained on procedural images alone (see
    ``sam2lora.pretrain``): they find thin dark curves without a prompt, and the structure under points or in a box.
    ``"random"`` are drawn from a fixed seed; LoRA alone makes little of them.
    """

    kind: Literal["nano"] = "nano"
    weights: Literal["shipped", "random"] = "shipped"
