"""Decoders: how a SAM 2 comes from features and prompts to a mask. A U-Net has its own.

A choice says whether it ``takes_prompts`` and ``guesses_iou``. One that is not SAM 2's own also says, as an adapter
does, which ``sites(backbone)`` it takes, and can ``place`` itself on an `Attachment`. There ``swap("decoder", module)``
puts a module in the place of SAM 2's own, from `Features` and `Prompts` to a `Prediction`; with ``reads_stages = True``
it is given the maps of the trunk. One that runs nothing of SAM 2's own decoder takes the site ``sam_mask_decoder`` as
well, so that no adapter lies there.
"""

from __future__ import annotations

from sam2lora.decoders.mask_decoder import MaskDecoder

Decoder = MaskDecoder

__all__ = ["Decoder", "MaskDecoder"]
