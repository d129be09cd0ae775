"""Memory as a search plans it before a trial runs, and as the trial takes it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import torch

from benchmarks.gpu.bench import PRECISIONS, Bench, Name, Precision, config, lines
from benchmarks.gpu.lines import Line, Measured, Skipped
from benchmarks.gpu.memory import peak
from sam2lora.config import Replicate
from sam2lora.training import packing
from sam2lora.training.memory import training_need
from sam2lora.training.session import start


def memory(bench: Bench) -> Iterator[Line]:
    """For each backbone, size and precision: MiB of frozen weights and of a trial, and of a further one of a pack."""
    every = product(bench.form.backbones, bench.form.sizes)
    pairs = dict.fromkeys([*bench.form.usual, *every])
    cases = [(name, size, precision) for name, size in pairs for precision in PRECISIONS]
    yield from lines(
        bench,
        [(f"{n}, {s} px, {p}", partial(_compared, bench, n, s, p)) for n, s, p in cases],
    )


def _compared(bench: Bench, name: Name, size: int, precision: Precision) -> Iterator[Line]:
    case, asked = f"{name}, {size} px, {precision}", config(name, size, precision=precision)
    planned = training_need(asked)
    if planned.shared + planned.own > bench.free_mib():
        yield Skipped(case, f"it needs {planned.shared + planned.own:.0f} MiB, {bench.free_mib():.0f} are free")
        return
    alone = start(asked, Replicate(), bench.runtime())
    packing.advance([alone])  # what the libraries keep for good is not a trial's
    one = peak(bench, lambda: packing.advance([alone]))
    values = {"planned MiB": planned.own, "taken MiB": one, "planned / taken": planned.own / one}
    if 2 * planned.own + planned.shared < bench.free_mib():
        another = start(asked, Replicate(seed=1), bench.runtime())
        both = peak(bench, lambda: packing.advance([alone, another]))
        values["of a further one MiB"] = both - one
    if bench.cuda:
        values["frozen planned MiB"] = planned.shared
        values["all allocated MiB"] = torch.cuda.max_memory_allocated(bench.device) / 2**20
    yield Measured(case, values)
