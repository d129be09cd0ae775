"""What torch's deterministic algorithms cost a training step."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.gpu.bench import PRECISIONS, Bench, Precision, config, lines
from benchmarks.gpu.lines import Line, Measured, Skipped
from benchmarks.gpu.timing import Step, company, phases


def deterministic(bench: Bench) -> Iterator[Line]:
    """A lone trial's step in each precision, with torch's usual algorithms and with its deterministic ones."""
    if not bench.cuda:
        yield Skipped("a step", "a CPU has one algorithm for each operation")
        return
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # without it cuBLAS is not deterministic
    yield from lines(bench, [(name, partial(_cost, bench, name)) for name in PRECISIONS])


def _cost(bench: Bench, precision: Precision) -> Iterator[Line]:
    name, size = bench.form.usual[0]
    lone = company(bench, config(name, size, precision=precision), 0)
    lone.epoch(2)
    usual, fixed = (lone.within_step(partial(_seconds, bench, on)) for on in (False, True))
    values = {"usual ms": 1000 * usual, "deterministic ms": 1000 * fixed, "deterministic / usual": fixed / usual}
    yield Measured(f"{name}, {size} px, {precision}", values)


def _seconds(bench: Bench, on: bool, step: Step) -> float:
    torch.use_deterministic_algorithms(on, warn_only=True)
    try:
        with warnings.catch_warnings(action="ignore"):  # what is not deterministic is said where trials are resumed
            return sum(phases(bench, step).values())
    finally:
        torch.use_deterministic_algorithms(False)
