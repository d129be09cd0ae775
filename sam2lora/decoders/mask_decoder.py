"""SAM 2's own decoder."""

from __future__ import annotations

from typing import ClassVar, Literal

from sam2lora.choice import choice


@choice
class MaskDecoder:
    """SAM 2's own mask decoder (Ravi et al. 2024, arXiv 2408.00714), with the weights of the backbone."""

    kind: Literal["mask_decoder"] = "mask_decoder"
    takes_prompts: ClassVar[bool] = True
    guesses_iou: ClassVar[bool] = True
