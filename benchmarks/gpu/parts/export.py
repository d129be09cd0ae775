"""A trained adapter in the forms that other tools read: they compute what was trained on the device."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench, lines
from benchmarks.gpu.engines import epoch, orders
from benchmarks.gpu.lines import Law, Line, Skipped
from benchmarks.gpu.training import trials
from harness.execution.engine import Engine
from sam2lora import evaluate, trained
from sam2lora.backbones import Nano, Sam2
from sam2lora.export_formats import write_peft, write_sam2
from sam2lora.files import ADAPTER
from sam2lora.models.build import build
from sam2lora.models.sam2 import Sam2Segmenter
from sam2lora.runtime import Runtime

_TOLERANCE = 1e-3
"""Largest difference of a logit, over the largest logit: float32 of another device, in another order."""


def export(bench: Bench) -> Iterator[Line]:
    """A checkpoint of the official package, and peft's files."""
    yield from lines(bench, [("a trained trial", lambda: _exported(bench))])


def _exported(bench: Bench) -> Iterator[Line]:
    (config, replicate) = trials(bench, 1)[0]
    engine, asked = Engine(), orders(bench, [(config, replicate)], bench.folder / "export")
    for done in range(config.epochs):
        epoch(engine, asked, done)
    adapter = trained.read(Path(asked[0].folder) / ADAPTER)
    size, backbone = config.image_size, config.backbone
    assert isinstance(backbone, Nano | Sam2)
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    segmenter = trained.attached(adapter, Runtime()).to(bench.device)
    with evaluate.single_predictor(segmenter) as predictor:
        expected = predictor(images.to(bench.device), None)[0].cpu()

    files = write_sam2(adapter, Runtime(), bench.folder / "export" / "sam2")
    theirs = build(backbone, size, Runtime())
    before = _logits(theirs, images)
    theirs.sam.load_state_dict(torch.load(files[0], weights_only=True)["model"])
    yield _law("official checkpoint, on the CPU", _logits(theirs, images), expected, before)

    if importlib.util.find_spec("peft") is None:
        yield Skipped("peft's files, on the CPU", "it needs peft, not installed here")
        return
    from peft import PeftModel

    write_peft(adapter, bench.folder / "export" / "peft")
    wrapped = PeftModel.from_pretrained(build(backbone, size, Runtime()).sam, str(bench.folder / "export" / "peft"))
    yield _law(
        "peft's files, on the CPU",
        _logits(Sam2Segmenter(wrapped.base_model.model, backbone).eval(), images),
        expected,
        before,
    )


def _law(case: str, found: Tensor, expected: Tensor, before: Tensor) -> Law:
    """That ``found`` is ``expected``, and that training has moved it away from ``before``."""
    largest = float(expected.abs().max())
    error, moved = float((found - expected).abs().max()) / largest, float((before - expected).abs().max()) / largest
    return Law(case, error <= min(_TOLERANCE, moved / 2), {"relative error": error, "moved by training": moved})


def _logits(segmenter: Sam2Segmenter, images: Tensor) -> Tensor:
    with torch.no_grad():
        return segmenter.decode(segmenter.encode(images)).logits
