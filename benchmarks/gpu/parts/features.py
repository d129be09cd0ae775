"""Features of images from files, and computed in every step: bit for bit the same trial."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from benchmarks.gpu.bench import Bench, lines
from benchmarks.gpu.lines import Law, Line
from benchmarks.gpu.training import alone, distance, trials
from sam2lora.adapters import LastBlocks, LoRA

_MIB = 512


def features(bench: Bench) -> Iterator[Line]:
    """LoRA in the decoder alone, and in the last block of the encoder."""
    adapters = {
        "decoder": LoRA(encoder="none", rank=4, dropout=0.0),
        "last block": LoRA(blocks=LastBlocks(count=1), rank=4, dropout=0.0),
    }
    yield from lines(bench, [(name, partial(_filed, bench, name, one)) for name, one in adapters.items()])


def _filed(bench: Bench, name: str, adapter: LoRA) -> Iterator[Line]:
    config, replicate = trials(bench, 1)[0]
    trial = (replace(config, adapter=adapter), replicate)
    computed = alone(trial, bench)
    floor = distance(alone(trial, bench), computed)
    for what in ("filed", "found in files"):
        apart = distance(alone(trial, bench, features_mib=_MIB), computed)
        # Where two runs without files differ, files need not do better.
        holds = apart.none or (not floor.none and apart.loss <= 10 * max(floor.loss, 1e-6))
        values = {"loss, relative": apart.loss, "adapter": apart.adapter, "adapter, two runs without": floor.adapter}
        yield Law(f"{name}, {what}", holds, values)
