"""Backbones: SAM 2 in its four published sizes, ``nano``, a small one of the same classes, and a U-Net to beat.

A choice says what it is: its ``title`` and its ``hub_id``, the name on the Hugging Face hub of what it is a copy of;
whether it ``takes_prompts``, ``guesses_iou`` and must be ``trained_whole``; ``why_alone`` its trials share no pack, if
so; ``weights_sha256``, the digest of the file of its weights (None: drawn from a fixed seed); and ``official_config``,
the YAML file by which the official ``sam2`` builds it, if there is one.
"""

from typing import Annotated

from pydantic import Field

from sam2lora.backbones.nano import Nano
from sam2lora.backbones.sam2 import Sam2, Sha256, Size, Version, published
from sam2lora.backbones.shapes import (
    Architecture,
    Hiera,
    LinearShape,
    Role,
    architecture,
    image_sizes,
    linears,
    untouched_blocks,
)
from sam2lora.backbones.unet import Encoder, UNet

Backbone = Annotated[Nano | Sam2 | UNet, Field(discriminator="kind")]

__all__ = [
    "Architecture",
    "Backbone",
    "Encoder",
    "Hiera",
    "LinearShape",
    "Nano",
    "Role",
    "Sam2",
    "Sha256",
    "Size",
    "UNet",
    "Version",
    "architecture",
    "image_sizes",
    "linears",
    "published",
    "untouched_blocks",
]
