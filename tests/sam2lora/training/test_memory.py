from __future__ import annotations

import errno
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from sam2lora.adapters import Attachment, Full, LoRA
from sam2lora.augments import NoAugment
from sam2lora.auxiliary import IoUError
from sam2lora.backbones import Nano, Sam2, UNet
from sam2lora.config import TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.models.build import build
from sam2lora.models.segmenter import Batch
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime
from sam2lora.training.memory import is_out_of_memory, training_need
from sam2lora.training.objective import objective, terms_of
from sam2lora.training.session import precision

CONFIG = TrialConfig(
    protocol=Transfer(sources=(Synthetic(hospital="alder"),)),
    backbone=Nano(weights="random"),
    adapters=(LoRA(rank=4, alpha=8.0),),
    augment=NoAugment(),
    image_size=128,
)


def training_mib(config: TrialConfig) -> float:
    return sum(training_need(config))


def measured_mib(config: TrialConfig) -> float:
    """What a real forward pass on the CPU keeps for its backward pass, with the weights and optimizer state."""
    segmenter = build(config.backbone, config.image_size, Runtime())
    frozen = sum(p.numel() * p.element_size() for p in segmenter.parameters())
    Attachment(segmenter, config.parts)
    segmenter.train()
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    images = torch.rand(config.batch_size, 3, config.image_size, config.image_size)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with precision(config, Runtime()):
            features = segmenter.encode(images)
            prediction = segmenter.decode(features)
        terms, shares = terms_of(config.loss, config.auxiliary)
        batch = Batch(images, torch.zeros_like(images[:, :1]), None)
        objective(terms, shares[:, None], prediction, features, batch)
    own = {parameter.untyped_storage().data_ptr() for parameter in segmenter.parameters()}
    saved = sum(tensor.untyped_storage().nbytes() for pointer, tensor in kept.items() if pointer not in own)
    trained = sum(p.numel() * p.element_size() for p in segmenter.parameters() if p.requires_grad)
    return (saved + frozen + 4 * trained) / 2**20


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 1},
        {"batch_size": 3},
        {"auxiliary": (IoUError(),), "batch_size": 2},
        {"adapters": (LoRA(encoder="none"),), "batch_size": 2},
        {"backbone": UNet(), "adapters": (Full(),), "batch_size": 2},
        {"backbone": Sam2(size="tiny"), "image_size": 256, "batch_size": 1},
    ],
    ids=["one", "three", "auxiliary", "decoder", "unet", "tiny"],
)
def test_a_real_step_keeps_what_was_planned(changes: dict[str, Any], precision: Literal["float32", "bfloat16"]) -> None:
    config = replace(CONFIG, **changes, precision=precision)
    assert training_mib(config) == pytest.approx(measured_mib(config), rel=0.01)


def test_trials_of_a_process_share_what_is_frozen() -> None:
    lora, full = training_need(CONFIG), training_need(replace(CONFIG, adapters=(Full(),)))
    frozen = sum(p.numel() for p in build(CONFIG.backbone, CONFIG.image_size, Runtime()).parameters()) * 4 / 2**20
    assert lora.shared == pytest.approx(frozen, rel=1e-3)
    assert full.shared == lora.shared, "full training changes copies"
    assert full.own > lora.own + 3 * frozen


def test_half_precision_needs_less() -> None:
    whole = replace(CONFIG, backbone=Sam2(size="tiny"), image_size=512, batch_size=1)
    assert training_mib(replace(whole, precision="bfloat16")) < 0.75 * training_mib(whole)


def test_memory_grows_with_batch_size_and_frame() -> None:
    base = training_mib(CONFIG)
    assert training_mib(replace(CONFIG, batch_size=4)) > 1.8 * base - 10
    assert training_mib(replace(CONFIG, image_size=256)) > 3.5 * base - 20


def test_the_largest_backbone_is_planned_without_its_weights() -> None:
    large = replace(CONFIG, backbone=Sam2(size="large"), image_size=1024)
    assert training_mib(large) > 224.4e6 * 4 / 2**20


def test_an_allocation_that_fails_is_recognised() -> None:
    with pytest.raises(RuntimeError) as real:
        torch.empty(10**16)  # more than a processor can address
    assert is_out_of_memory(real.value)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("could not create a primitive descriptor for a convolution forward propagation"), False),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("CUDA error: out of memory"), False),
    ],
)
def test_lack_of_memory_is_told_from_other_faults(error: Exception, told: bool) -> None:
    assert is_out_of_memory(error) is told
