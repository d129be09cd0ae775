"""A pack that finds too little memory: halved, said, and as it would have been; and the engine afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.gpu.bench import Bench, lines
from benchmarks.gpu.engines import epoch, orders
from benchmarks.gpu.lines import Law, Line
from benchmarks.gpu.memory import limited, peak
from benchmarks.gpu.training import Trial, trials
from harness.execution.engine import Engine
from harness.execution.messages import EpochReport
from sam2lora.adapters import LoRA
from sam2lora.training import packing
from sam2lora.training.session import Session

_TRIALS = 4
_SHARE = 0.75
"""Of the memory that the pack takes: what it finds."""
_TOLERANCE = 1e-4


def out_of_memory(bench: Bench) -> Iterator[Line]:
    """With memory for part of a pack, then for none of its trials, then for all of them again."""
    yield from lines(bench, [(f"a pack of {_TRIALS}", lambda: _crowded(bench))])


def _crowded(bench: Bench) -> Iterator[Line]:
    company = [
        _packable(trial, rank, bench.form.crowded_size) for rank, trial in enumerate(trials(bench, _TRIALS), start=2)
    ]
    free, asked = Engine(), orders(bench, company, bench.folder / "free")
    epoch(free, asked, 0)
    expected: list[Mapping[str, EpochReport]] = []
    needed = peak(bench, lambda: expected.append(epoch(free, asked, 1)))
    expected.append(epoch(free, asked, 2))

    engine, asked = Engine(), orders(bench, company, bench.folder / "crowded")
    epoch(engine, asked, 0)
    with _sizes() as sizes, limited(bench, _SHARE * needed):
        found = epoch(engine, asked, 1)
    halved = sizes[:1] == [_TRIALS] and max(sizes[1:], default=_TRIALS) < _TRIALS
    yield Law(
        "memory for a part of the pack: it is halved",
        halved and _apart(found, expected[0]) <= _TOLERANCE,
        {"MiB of the pack": needed, "packs tried": " ".join(map(str, sizes)), "loss": _apart(found, expected[0])},
    )
    with limited(bench, 0.0):
        endings = [str(item["outcome"]) for item in epoch(engine, asked, 2).values()]
    said = endings == ["out_of_memory"] * _TRIALS
    yield Law("memory for no trial: each says so", said, {"endings": " ".join(endings)})

    apart = _apart(epoch(engine, asked, 2), expected[1])
    yield Law("memory again: each goes on from its checkpoint", apart <= _TOLERANCE, {"loss": apart})


def _packable(trial: Trial, rank: int, size: int) -> Trial:
    """LoRA in the decoder alone, which shares a pack on a CPU, too; more images in a batch than elsewhere."""
    config, replicate = trial
    adapter = LoRA(encoder="none", rank=rank, alpha=2.0 * rank)
    return replace(config, adapters=(adapter,), image_size=size, batch_size=4, epochs=4), replicate


@contextmanager
def _sizes() -> Iterator[list[int]]:
    """How many trials each pack had that was tried within the block."""
    sizes: list[int] = []
    true = packing.epoch

    def counted(sessions: Sequence[Session]) -> Any:
        sizes.append(len(sessions))
        return true(sessions)

    packing.epoch = counted
    try:
        yield sizes
    finally:
        packing.epoch = true


def _apart(found: Mapping[str, EpochReport], expected: Mapping[str, EpochReport]) -> float:
    """The largest relative difference of a loss; infinite where a trial has none, NaN where one is."""
    return float(np.max([_relative(found[key]["entry"], item["entry"]) for key, item in expected.items()]))


def _relative(found: Mapping[str, float] | None, expected: Mapping[str, float]) -> float:
    if found is None:
        return float("inf")
    return abs(found["loss/total"] - expected["loss/total"]) / expected["loss/total"]
