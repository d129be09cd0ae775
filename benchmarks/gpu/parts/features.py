"""Features of images from files, and computed in every step: bit for bit the same trial, and what an image costs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

from benchmarks.gpu.bench import Bench, Name, backbone, lines
from benchmarks.gpu.lines import Law, Line, Measured
from benchmarks.gpu.timing import median
from benchmarks.gpu.training import alone, distance, trials
from sam2lora.adapters import LastBlocks, LoRA
from sam2lora.models.build import build
from sam2lora.models.feature_cache import Store
from sam2lora.models.sam2 import Sam2Segmenter
from sam2lora.transfers import to_device

_MIB = 512


def features(bench: Bench) -> Iterator[Line]:
    """On a CPU, where files are used, that they change no bit; anywhere, when they would save time."""
    adapters = {
        "decoder": LoRA(encoder="none", rank=4, dropout=0.0),
        "last block": LoRA(blocks=LastBlocks(count=1), rank=4, dropout=0.0),
    }
    if not bench.cuda:
        yield from lines(bench, [(name, partial(_filed, bench, name, one)) for name, one in adapters.items()])
    sides = {name: max(bench.form.sizes) for name in bench.form.backbones}
    yield from lines(bench, [(name, partial(_timed, bench, name, side)) for name, side in sides.items()])


def _filed(bench: Bench, name: str, adapter: LoRA) -> Iterator[Line]:
    config, replicate = trials(bench, 1)[0]
    trial = (replace(config, adapters=(adapter,)), replicate)
    computed = alone(trial, bench)
    for what in ("filed", "found in files"):
        apart = distance(alone(trial, bench, features_mib=_MIB), computed)
        yield Law(f"{name}, {what}", apart.none, {"loss, relative": apart.loss, "adapter": apart.adapter})


def _timed(bench: Bench, name: Name, side: int) -> Iterator[Line]:
    segmenter = build(backbone(name), side, bench.runtime()).to(bench.device)
    assert isinstance(segmenter, Sam2Segmenter)
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    given = image.to(bench.device)
    store = Store(bench.folder / "features", 2**12)

    def computed() -> dict[str, torch.Tensor]:
        with torch.no_grad():
            features = segmenter.encode(given)
        return {str(number): level for number, level in enumerate((features.image, *features.finer))}

    def key() -> str:
        return hashlib.sha256(image.numpy().data).hexdigest()

    store.write(key(), {level: tensor.cpu() for level, tensor in computed().items()})

    def found() -> list[torch.Tensor]:
        levels = store.read(key())
        assert levels is not None
        return [to_device(tensor, bench.device) for tensor in levels.values()]

    values = {"computed, seconds": median(bench, computed), "from a file, seconds": median(bench, found)}
    yield Measured(f"an image, {name}, {side} px", values)
