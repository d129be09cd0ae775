"""A lone LoRA training step of ours, of peft's and of plain PyTorch's, in turns: see ``benchmarks.steps``."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial

from benchmarks.gpu.bench import PRECISIONS, Bench, Name, Precision, config, lines
from benchmarks.gpu.lines import Line, Measured
from benchmarks.gpu.memory import peak
from benchmarks.gpu.timing import company, repetitions, seconds
from benchmarks.steps import SIDES, theirs
from sam2lora.adapters import LoRA

_TURNS = 3


def peers(bench: Bench) -> Iterator[Line]:
    """For each usual backbone, in each precision: a step of an epoch, with dropout in front of the update for all."""
    yield from lines(bench, [
        (f"{name}, {size} px, {precision}", partial(_compared, bench, name, size, precision))
        for name, size in bench.form.usual for precision in reversed(PRECISIONS)
    ])  # fmt: skip


def _compared(bench: Bench, name: Name, size: int, precision: Precision) -> Iterator[Line]:
    adapter = LoRA(rank=8, alpha=16.0, dropout=0.1, dropout_site="input", init="kaiming")
    lone = company(bench, config(name, size, precision=precision, adapters=(adapter,)), 0)
    lone.epoch(2)
    count = repetitions(bench, seconds(bench, lambda: lone.epoch(2)) / 2)
    # Each takes the session's batches, so many as the last epoch had.
    runs = {"sam2lora": lambda: lone.epoch(count), **{side: theirs(lone.sessions[0], side) for side in SIDES[1:]}}
    mib = {side: peak(bench, run) for side, run in runs.items()}
    turns = [{side: seconds(bench, run) for side, run in runs.items()} for _ in range(_TURNS)]
    taken = {side: 1000 * statistics.median(turn[side] for turn in turns) / count for side in SIDES}
    yield Measured(f"{name}, {size} px, {precision}", {
        **{f"{side} ms": taken[side] for side in SIDES},
        **{f"{side} / sam2lora": taken[side] / taken["sam2lora"] for side in SIDES[1:]},
        **{f"{side} MiB": mib[side] for side in SIDES},
    })  # fmt: skip
