"""The shapes of a SAM 2: arithmetic alone; ``sam2lora.model`` builds the modules.

``linears`` lists every Linear layer of the image path by name, so that an adapter can choose its layers, and count its
parameters, without any weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sam2lora.backbones.nano import Nano
from sam2lora.backbones.sam2 import Sam2, Version

Hiera = Nano | Sam2
"""The backbones that are a SAM 2: a Hiera trunk, a neck and SAM's mask decoder."""


@dataclass(frozen=True)
class Architecture:
    """The shapes of a SAM 2. Widths double and maps halve from stage to stage.

    ``embed_dim`` and ``heads`` are those of the first stage, ``stages`` the number of blocks of each,
    ``global_blocks`` the blocks that attend to the whole map, ``windows`` the window side of the others by stage,
    ``background`` the side of the interpolated position map, ``patch_stride`` the stride of the first convolution in
    pixels, ``width`` the channels D of neck and decoder, ``mlp`` the hidden width of the decoder's token MLP.
    ``memory_*`` shape the modules for video, which the image path keeps but never runs.
    """

    embed_dim: int
    heads: int
    stages: tuple[int, int, int, int]
    global_blocks: tuple[int, ...]
    windows: tuple[int, int, int, int]
    background: int
    version: Version
    patch_stride: int = 4
    width: int = 256
    memory_width: int = 64
    memory_layers: int = 4
    memory_mlp: int = 2048

    mlp: int = 2048  # fixed by SAM2Base

    @property
    def multiple(self) -> int:
        """Image sides must be multiples of this: whole windows in stage 1, whole maps after three poolings."""
        return self.patch_stride * math.lcm(self.windows[0], 2 ** (len(self.stages) - 1))

    @property
    def backbone_stride(self) -> int:
        """Pixels per step of the coarsest map that the decoder reads (stage 3; the neck drops stage 4)."""
        return 4 * self.patch_stride

    @property
    def dims(self) -> tuple[int, ...]:
        """Channels of the four stages."""
        return tuple(self.embed_dim * 2**stage for stage in range(len(self.stages)))

    @property
    def stage_of(self) -> tuple[int, ...]:
        """The stage, 1 to 4, of every block."""
        return tuple(stage for stage, count in enumerate(self.stages, start=1) for _ in range(count))


def _tiny(version: Version) -> Architecture:
    return Architecture(96, 1, (1, 2, 7, 2), (5, 7, 9), (8, 4, 14, 7), 7, version)


def _small(version: Version) -> Architecture:
    return Architecture(96, 1, (1, 2, 11, 2), (7, 10, 13), (8, 4, 14, 7), 7, version)


def _base_plus(version: Version) -> Architecture:
    return Architecture(112, 2, (2, 3, 16, 3), (12, 16, 20), (8, 4, 14, 7), 14, version)


def _large(version: Version) -> Architecture:
    return Architecture(144, 2, (2, 6, 36, 4), (23, 33, 43), (8, 4, 16, 8), 7, version)


# The widths are tuned to the clock: at one thread a third of a step is spent on the stride-2 maps.
_NANO = Architecture(
    embed_dim=16,
    heads=1,
    stages=(1, 2, 3, 1),
    global_blocks=(4,),
    windows=(8, 4, 8, 4),
    background=7,
    version="2.1",
    patch_stride=2,
    width=64,
    memory_width=16,
    memory_layers=1,
    memory_mlp=64,
)


def architecture(backbone: Hiera) -> Architecture:
    """The shapes of ``backbone``, as published (``sam2/configs`` of the official package) for ``Sam2``."""
    match backbone:
        case Nano():
            return _NANO
        case Sam2(size="tiny", version=version):
            return _tiny(version)
        case Sam2(size="small", version=version):
            return _small(version)
        case Sam2(size="base+", version=version):
            return _base_plus(version)
        case Sam2(version=version):
            return _large(version)


Role = Literal["qkv", "proj", "mlp", "shortcut", "attention", "token_mlp", "hypernetwork"]


@dataclass(frozen=True)
class LinearShape:
    """A Linear layer of the image path. ``block``: index of its Hiera block, None in the mask decoder.

    ``name`` is the module's name inside ``SAM2Base``.
    """

    name: str
    inputs: int
    outputs: int
    role: Role
    block: int | None = None


def linears(shape: Architecture) -> Iterator[LinearShape]:
    """Every Linear layer whose output reaches mask channel 0, trunk first, in the order of the forward pass.

    The heads for IoU and object scores and the hyper-networks of the other mask channels are left out: no gradient
    of a loss on channel 0 reaches them.
    """
    yield from _trunk_linears(shape)
    yield from _decoder_linears(shape.width, shape.mlp)


def _trunk_linears(shape: Architecture) -> Iterator[LinearShape]:
    inputs = shape.embed_dim
    for block, stage in enumerate(shape.stage_of):
        name, outputs = f"image_encoder.trunk.blocks.{block}", shape.dims[stage - 1]
        if inputs != outputs:
            yield LinearShape(f"{name}.proj", inputs, outputs, "shortcut", block)
        yield LinearShape(f"{name}.attn.qkv", inputs, 3 * outputs, "qkv", block)
        yield LinearShape(f"{name}.attn.proj", outputs, outputs, "proj", block)
        yield LinearShape(f"{name}.mlp.layers.0", outputs, 4 * outputs, "mlp", block)
        yield LinearShape(f"{name}.mlp.layers.1", 4 * outputs, outputs, "mlp", block)
        inputs = outputs


def _decoder_linears(width: int, mlp: int) -> Iterator[LinearShape]:
    transformer = "sam_mask_decoder.transformer"
    for layer in (f"{transformer}.layers.0", f"{transformer}.layers.1"):
        yield from _attention_linears(f"{layer}.self_attn", width, width)
        yield from _attention_linears(f"{layer}.cross_attn_token_to_image", width, width // 2)
        yield LinearShape(f"{layer}.mlp.layers.0", width, mlp, "token_mlp")
        yield LinearShape(f"{layer}.mlp.layers.1", mlp, width, "token_mlp")
        yield from _attention_linears(f"{layer}.cross_attn_image_to_token", width, width // 2)
    yield from _attention_linears(f"{transformer}.final_attn_token_to_image", width, width // 2)
    for layer_index, outputs in enumerate((width, width, width // 8)):
        # Token 0 makes the single mask; channel 0 of the three is token 1.
        name = f"sam_mask_decoder.output_hypernetworks_mlps.1.layers.{layer_index}"
        yield LinearShape(name, width, outputs, "hypernetwork")


def _attention_linears(name: str, width: int, inner: int) -> Iterator[LinearShape]:
    for projection in ("q_proj", "k_proj", "v_proj"):
        yield LinearShape(f"{name}.{projection}", width, inner, "attention")
    yield LinearShape(f"{name}.out_proj", inner, width, "attention")
