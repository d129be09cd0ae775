"""The segmenter of a backbone, with its weights or with its shapes alone."""

from __future__ import annotations

from functools import cache
from typing import overload

import torch

from sam2lora.backbones import Backbone, Hiera, Nano, Sam2, UNet, architecture, image_sizes
from sam2lora.models.sam2 import Sam2Segmenter, sam2_modules
from sam2lora.models.segmenter import Segmenter
from sam2lora.models.unet import UNetSegmenter, load_encoder, network
from sam2lora.models.weights import load, read_weights
from sam2lora.runtime import Runtime

# cuDNN would multiply float32 with ten bits, as cuBLAS would in NVIDIA's containers, which set
# TORCH_ALLOW_TF32_CUBLAS_OVERRIDE; a trial in a pack would no longer be the trial alone to 1e-4.
torch.backends.cudnn.allow_tf32 = False
torch.backends.cuda.matmul.allow_tf32 = False
_RANDOM_WEIGHTS_SEED = 0


@overload
def build(backbone: Hiera, image_size: int, runtime: Runtime) -> Sam2Segmenter: ...


@overload
def build(backbone: Backbone, image_size: int, runtime: Runtime) -> Segmenter: ...


def build(backbone: Backbone, image_size: int, runtime: Runtime) -> Segmenter:
    """The segmenter of ``backbone`` for square images of ``image_size`` pixels, on the CPU.

    In eval mode, all parameters frozen, weights loaded; the global random state is left as it was. Raises
    ``ValueError`` for a size that does not fit the strides and ``CheckpointError`` for weights that do not belong.
    """
    _check_image_size(backbone, image_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_WEIGHTS_SEED)
        segmenter = _unloaded(backbone, image_size)
    if backbone.weights_sha256 is not None:
        state = read_weights(backbone.weights_sha256, runtime)
        match segmenter:
            case Sam2Segmenter():
                load(segmenter.sam, state, segmenter.backbone)
            case UNetSegmenter():
                load_encoder(segmenter.network, state, segmenter.backbone)
    return segmenter.requires_grad_(False).eval()


def _unloaded(backbone: Backbone, image_size: int) -> Segmenter:
    match backbone:
        case Nano() | Sam2():
            return Sam2Segmenter(sam2_modules(architecture(backbone), image_size), backbone)
        case UNet():
            return UNetSegmenter(network(backbone), backbone, image_size)


def shapes(backbone: Backbone, image_size: int | None = None) -> Segmenter:
    """The segmenter with its shapes alone, on the meta device: needs neither weights nor memory."""
    with torch.device("meta"):
        return _unloaded(backbone, image_size or image_sizes(backbone)[1]).requires_grad_(False)


@cache
def parameters(backbone: Backbone) -> int:
    """How many parameters the whole model has, video modules included. Needs neither weights nor memory."""
    return sum(parameter.numel() for parameter in shapes(backbone).parameters())


def _check_image_size(backbone: Backbone, image_size: int) -> None:
    multiple, smallest = image_sizes(backbone)
    if image_size < smallest or image_size % multiple:
        below, above = image_size // multiple * multiple, -(-image_size // multiple) * multiple
        nearest = " or ".join(str(size) for size in (below, above) if size >= smallest)
        raise ValueError(
            f"image_size must be a multiple of {multiple} from {smallest} on for this backbone, but got "
            f"{image_size}: use {nearest or smallest}."
        )
