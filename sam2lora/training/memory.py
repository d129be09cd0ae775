"""Measures of memory: what a training step needs, what is free, what was taken, and how its lack shows."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from sam2lora.adapters import Attachment
from sam2lora.config import TrialConfig
from sam2lora.models.build import shapes
from sam2lora.models.segmenter import Batch
from sam2lora.resources import free_memory
from sam2lora.training.objective import objective, terms_of

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
    """What one training step holds at its peak: weights, gradients, optimizer state, copies and saved activations.

    Counted by the step's forward pass on tensors that have a dtype and a device, the CPU, and no numbers, in a second
    or two even for the large backbone. A real step on a CPU keeps the same to a hundredth, in either precision; what
    the allocator, the libraries and the images add is not in it.
    """
    segmenter = shapes(config.backbone, config.image_size)
    shared = sum(_bytes(tensor) for tensor in (*segmenter.parameters(), *segmenter.buffers()))
    tensors = Attachment(segmenter, config.parts).tensors
    saved: dict[int, Tensor] = {}  # keeps every storage alive, so that no identity is used twice

    def keep(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor
        return tensor

    size = (config.batch_size, 3, config.image_size, config.image_size)
    terms, shares = terms_of(config.loss, config.auxiliary)
    # Not on the meta device: autocast leaves it alone, and its attention is no fused one.
    with FakeTensorMode(allow_non_fake_inputs=True):
        batch = Batch(torch.zeros(size), torch.zeros(size[0], 1, *size[2:]), None)
        segmenter.to_empty(device="cpu").train()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16"):
                features = segmenter.encode(batch.images)
                prediction = segmenter.decode(features)
            objective(terms, shares[:, None], prediction, features, batch)
    own = {parameter.untyped_storage()._cdata for parameter in segmenter.parameters()}
    activations = sum(tensor.untyped_storage().nbytes() for storage, tensor in saved.items() if storage not in own)
    # A gradient, two moments and what its sharpness keeps for every parameter.
    copies = 4 + config.sharpness.copies
    held = sum(_bytes(tensor) * (copies if isinstance(tensor, nn.Parameter) else 1) for tensor in tensors.values())
    return Need(shared / _MIB, (held + activations) / _MIB)


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
    return free_memory() / 2**20
