"""The forward pass of every backbone on the device, against the same in float64 on the CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu.bench import PRECISIONS, Bench, Name, Precision, backbone, lines
from benchmarks.gpu.lines import Law, Line
from sam2lora.models.build import build
from sam2lora.models.sam2 import Sam2Segmenter
from sam2lora.models.segmenter import Points, Segmenter
from sam2lora.runtime import Runtime

TOLERANCE = 1e-4
"""Of float32: the largest difference of a logit, over the largest logit."""
WIDER = 3.0
"""bfloat16 may err so many times as far as it does on the CPU, where the order of sums differs."""


def forward(bench: Bench) -> Iterator[Line]:
    """A line for every backbone and precision."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    yield from lines(bench, [(name, partial(_compare, bench, name)) for name in bench.form.forward])


def _compare(bench: Bench, name: Name) -> Iterator[Line]:
    size = bench.form.forward_size
    segmenter = build(backbone(name), size, Runtime())
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    on_cpu = {precision: _logits(segmenter, images, precision) for precision in PRECISIONS}
    exact = _exact(build(backbone(name), size, Runtime()), images)
    segmenter.to(bench.device)
    for precision in PRECISIONS:
        error = _error(_logits(segmenter, images.to(bench.device), precision), exact)
        cpu = _error(on_cpu[precision], exact)
        limit = TOLERANCE if precision == "float32" else WIDER * cpu
        values = {"relative error": error, "of the CPU": cpu, "limit": limit}
        yield Law(f"{name}, {size} px, {precision}", error <= limit, values)


def _exact(segmenter: Segmenter, images: Tensor) -> Tensor:
    segmenter.double()
    if isinstance(segmenter, Sam2Segmenter):
        segmenter.sam.sam_prompt_encoder.pe_layer.float()  # it makes its coordinates in single precision
    return _logits(segmenter, images.double(), "float32")


def _logits(segmenter: Segmenter, images: Tensor, precision: Precision) -> Tensor:
    with torch.no_grad(), torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        return torch.cat([segmenter(images, points).logits for points in _prompts(segmenter, images)]).double().cpu()


def _prompts(segmenter: Segmenter, images: Tensor) -> list[Points | None]:
    """No prompt, and for a SAM 2 a point on the object and one beside it."""
    if not isinstance(segmenter, Sam2Segmenter):
        return [None]
    count, side = images.shape[0], images.shape[-1]
    places = torch.tensor([[side / 2, side / 2], [side / 4, side / 8]], device=images.device)
    labels = torch.tensor([1, 0], device=images.device, dtype=torch.int32)
    return [None, (places.expand(count, 2, 2), labels.expand(count, 2))]


def _error(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).abs().max() / exact.abs().max())
