"""Memory: what a trial's training step needs, known before it runs; what is free, what is taken, and its lack."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import NamedTuple

import psutil
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import interpolate

from sam2lora.adapters import Full
from sam2lora.config import TrialConfig
from sam2lora.model import shapes

_MIB = 2**20
_NO_ROOM = (
    "DefaultCPUAllocator: ",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
# All that torch says where oneDNN finds no memory; other faults have words behind it.
_ONEDNN = "could not create a primitive"


class Need(NamedTuple):
    """MiB of a trial. ``shared``: frozen weights, of which trials in one process have one copy. ``own``: the rest."""

    shared: float
    own: float


def training_need(config: TrialConfig) -> Need:
    """What one training step holds at its peak: weights, gradients, optimizer state and saved activations.

    Counted by the step's forward pass on tensors that have a dtype and a device, the CPU, and no numbers, in a second
    or two even for the large backbone. A real step on a CPU keeps the same to a hundredth, in either precision; what
    the allocator, the libraries and the images add is not in it.
    """
    segmenter = shapes(config.backbone, config.image_size).requires_grad_(False)
    config.adapter.attach(segmenter, torch.Generator().manual_seed(0))
    saved: dict[int, Tensor] = {}  # keeps every storage alive, so that no identity is used twice

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor
        return tensor

    size = (config.batch_size, 3, config.image_size, config.image_size)
    # Not on the meta device: autocast leaves it alone, and its attention is no fused one.
    with FakeTensorMode(allow_non_fake_inputs=True):
        segmenter.to_empty(device="cpu").train()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16"):
                logits = segmenter(torch.zeros(size))
            logits = interpolate(logits.float(), size=size[-2:], mode="bilinear", align_corners=False)
            config.loss(logits, torch.zeros_like(logits))
    weights = sum(_bytes(tensor) for tensor in (*segmenter.parameters(), *segmenter.buffers()))
    trained = sum(_bytes(tensor) for tensor in segmenter.parameters() if tensor.requires_grad)
    own = {parameter.untyped_storage()._cdata for parameter in segmenter.parameters()}
    activations = sum(tensor.untyped_storage().nbytes() for storage, tensor in saved.items() if storage not in own)
    # Full training changes a model of its own.
    shared = 0 if isinstance(config.adapter, Full) else weights - trained
    return Need(shared / _MIB, (weights - shared + 3 * trained + activations) / _MIB)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed.

    Python and CUDA's caching allocator have types of their own for it, and the system a number. Torch's allocator of
    the CPU, oneDNN, the CUDA driver, cuBLAS and cuDNN raise a RuntimeError that says so.
    """
    match error:
        case MemoryError() | torch.OutOfMemoryError():
            return True
        case OSError():
            return error.errno == errno.ENOMEM
        case RuntimeError():
            return str(error) == _ONEDNN or any(sign in str(error) for sign in _NO_ROOM)
        case _:
            return False


def taking(device: str) -> Callable[[], float | None]:
    """A function that tells how many MiB were taken at most since now, on top of what is; None where nobody counts."""
    if not device.startswith("cuda"):
        return lambda: None
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    return lambda: (torch.cuda.max_memory_allocated(device) - before) / 2**20


def free_mib(device: str) -> float:
    """MiB of a device that nobody holds, what torch keeps unused included."""
    if device.startswith("cuda"):
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return float(torch.cuda.mem_get_info(device)[0] + unused) / 2**20
    return float(psutil.virtual_memory().available) / 2**20
