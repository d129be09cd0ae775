"""No learned prompts."""

from __future__ import annotations

from typing import Literal

from sam2lora.choice import choice


@choice
class NoPrompter:
    """Points, where there are any, go to the decoder as SAM 2's own prompt encoder sees them."""

    kind: Literal["no_prompter"] = "no_prompter"
