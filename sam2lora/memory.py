"""What a trial's training step needs of memory, known before it runs."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from sam2lora.config import TrialConfig
from sam2lora.model import shapes

_MIB = 2**20
_NO_ROOM = (
    "DefaultCPUAllocator: ",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


def training_mib(config: TrialConfig) -> float:
    """MiB that one training step holds at its peak: weights, gradients, optimizer state and saved activations.

    Counted by running the step's forward pass on torch's meta device, which computes shapes and no numbers, in less
    than a second even for the large backbone. The fused attention kernels
    of a real device keep less, so nano needs about a fifth less than this; what the allocator, the libraries and the
    images add is not in it.
    """
    segmenter = shapes(config.backbone, config.image_size).requires_grad_(False)
    config.adapter.attach(segmenter, torch.Generator().manual_seed(0))
    segmenter.to("meta").train()
    weights = sum(_bytes(tensor) for tensor in (*segmenter.parameters(), *segmenter.buffers()))
    trained = sum(_bytes(tensor) for tensor in segmenter.parameters() if tensor.requires_grad)
    saved: dict[int, Tensor] = {}  # keeps every storage alive, so that no identity is used twice

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor
        return tensor

    size = (config.batch_size, 3, config.image_size, config.image_size)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        images = torch.zeros(size, device="meta")
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16"):
            logits = segmenter(images)
        logits = interpolate(logits.float(), size=size[-2:], mode="bilinear", align_corners=False)
        config.loss(logits, torch.zeros_like(logits))
    own = {parameter.untyped_storage()._cdata for parameter in segmenter.parameters()}
    activations = sum(tensor.untyped_storage().nbytes() for storage, tensor in saved.items() if storage not in own)
    return (weights + 3 * trained + activations) / _MIB


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: in Python or in CUDA's caching allocator, which have types of their own, or in
    torch's allocator of the CPU, the CUDA driver, cuBLAS or cuDNN, which raise a RuntimeError that says so."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _NO_ROOM)
