"""The shapes of a SAM 2: arithmetic alone; ``sam2lora.models.build`` builds the modules.

``linears`` lists every Linear layer of the image path by name, so that an adapter can choose its layers, and count its
parameters, without any weights.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

from sam2lora.backbones.nano import Nano
from sam2lora.backbones.sam2 import Sam2, Version
from sam2lora.backbones.unet import UNet

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


def architecture(backbone: Hiera | UNet) -> Architecture:
    """The shapes of ``backbone``, as published (``sam2/configs`` of the official package) for ``Sam2``.

    A U-Net has none of them and raises ``ValueError``.
    """
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
        case UNet():
            raise ValueError("It needs the layers of a SAM 2, but the backbone is a U-Net: use Full().")


def image_sizes(backbone: Hiera | UNet) -> tuple[int, int]:
    """What an image side must be a multiple of, and the smallest side, in pixels."""
    if isinstance(backbone, UNet):
        return 32, 64  # five halvings; BatchNorm in training needs more than one value where the map is coarsest
    multiple = architecture(backbone).multiple
    return multiple, max(multiple, 32)  # `TrialConfig` takes none below


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


@cache
def linears(shape: Architecture) -> tuple[LinearShape, ...]:
    """Every Linear layer whose output reaches mask channel 0, trunk first, in the order of the forward pass.

    The heads for IoU and object scores and the hyper-networks of the other mask channels are left out: no gradient
    of a loss on channel 0 reaches them.
    """
    return (*_trunk_linears(shape), *_decoder_linears(shape.width, shape.mlp))


def untouched_blocks(names: Iterable[str], backbone: Hiera | UNet) -> int | None:
    """How many Hiera blocks lie in front of all of ``names``, modules or tensors inside ``SAM2Base``.

    The features of an image depend on none of ``names`` where that is None: all of them lie in the decoder, or there
    are none. -1 where one comes before the first block, as the patch embedding does. 0 for a U-Net, which has no such
    blocks.
    """
    if isinstance(backbone, UNet):
        return 0
    depth = sum(architecture(backbone).stages)
    blocks = [block for name in names if (block := _block(name, depth)) is not None]
    return min(blocks) if blocks else None


def _block(name: str, depth: int) -> int | None:
    """The block of a module or tensor; -1 in front of all, ``depth`` behind the trunk, None behind the features."""
    if found := re.match(r"image_encoder\.trunk\.blocks\.(\d+)\b", name):
        return int(found[1])
    behind = ("image_encoder.neck", "sam_mask_decoder.conv_s0", "sam_mask_decoder.conv_s1", "no_mem_embed")
    if name == "sam_mask_decoder" or f"{name}.".startswith(tuple(f"{part}." for part in behind)):
        return depth
    return None if name.startswith(("sam_mask_decoder.", "sam_prompt_encoder", "prompter", "decoder")) else -1


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
