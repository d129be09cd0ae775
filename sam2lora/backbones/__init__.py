"""Backbones: SAM 2 in its four published sizes, ``nano``, a small one of the same classes, and a U-Net to beat."""

from typing import Annotated

from pydantic import Field

from sam2lora.backbones.nano import Nano
from sam2lora.backbones.sam2 import Sam2, Sha256, Size, Version, published
from sam2lora.backbones.shapes import Architecture, Hiera, LinearShape, Role, architecture, linears
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
    "linears",
    "published",
]
