"""Full fine-tuning: what adapters are cheaper than, and how a U-Net is trained."""

from __future__ import annotations

from typing import ClassVar, Literal

from sam2lora.adapters.attachment import WHOLE, Attachment, Site
from sam2lora.adapters.packed import NoPackForm
from sam2lora.backbones import Backbone
from sam2lora.choice import choice


@choice
class Full:
    """Every parameter of the image path is trained: trunk, neck, prompt encoder and decoder, or the whole U-Net.

    BatchNorm, which only a U-Net has, follows the training batches, so its statistics are part of what was trained.
    A trial's learning rate should be far below LoRA's for SAM 2.
    """

    mergeable: ClassVar[bool] = True
    kind: Literal["full"] = "full"

    def sites(self, backbone: Backbone) -> frozenset[Site]:
        """The weights of all modules."""
        return frozenset({WHOLE})

    def place(self, on: Attachment) -> None:
        """Let copies of all weights of the image path be trained in their place."""
        on.copy("")

    def pack_form(self, backbone: Backbone) -> NoPackForm:
        """None: no layer is left that trials could share."""
        return NoPackForm("full fine-tuning leaves no layer frozen that trials could share")
