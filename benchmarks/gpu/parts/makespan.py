"""How long a search takes: packs of the harness beside the glue that people write, see ``benchmarks.makespan``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.bench import Bench, Case, backbone, lines
from benchmarks.gpu.lines import Line, Measured
from harness.execution.slots import RESIDENTS, Slots, share_machine
from sam2lora.adapters import LoRA
from sam2lora.config import TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.protocols import Transfer

if TYPE_CHECKING:  # what imports Ray is imported where the part runs
    from benchmarks.makespan import Measured as Side

_SHARES = (Fraction(1, 4), Fraction(1, 8), Fraction(1, 2), Fraction(1))
"""Of the GPU for a trial of the glue; the ones that are likely to be its best come first."""
_TRIALS = 8


@dataclass(frozen=True)
class Search:
    """A side in a room, and how many trials it gets: those that run at once, twice, but no more than all."""

    case: str
    run: Callable[[list[TrialConfig], Slots, Path, Path], Side]
    room: Slots
    trials: int


def makespan(bench: Bench) -> Iterator[Line]:
    """One search in packs, then of the glue with several shares of the device for each trial. Ray starts once."""
    import optuna

    from harness.execution import ray_cluster

    if bench.cuda:  # one GPU, wherever there are several
        os.environ["CUDA_VISIBLE_DEVICES"] = (os.environ.get("CUDA_VISIBLE_DEVICES") or "0").partition(",")[0]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    with ray_cluster.running():
        yield from lines(bench, _cases(bench))


def _cases(bench: Bench) -> Iterator[Case]:
    packs: list[float] = []
    for number, search in enumerate(_searches(bench)):
        folder = bench.folder / f"makespan {number}"
        yield search.case, partial(_searched, bench, search, folder, packs)


def _searches(bench: Bench) -> Iterator[Search]:
    from benchmarks.makespan import harness, plain

    if not bench.cuda:
        one = replace(share_machine(0.0), concurrent=1)
        yield Search("packs", harness, replace(one, concurrent=RESIDENTS, residents=RESIDENTS), 2)
        yield Search("glue, one at a time", plain, one, 1)
        return
    yield Search("packs", harness, share_machine(None, packed=True), _TRIALS)
    for share in _SHARES:
        room = share_machine(float(share))
        yield Search(f"glue, {share} of the GPU for a trial", plain, room, min(2 * room.concurrent, _TRIALS))


def _searched(bench: Bench, search: Search, folder: Path, packs: list[float]) -> Iterator[Line]:
    """``packs``: seconds that a trial takes in packs, which come first; empty if they failed."""
    folder.mkdir()
    found = search.run(_configs(bench)[: search.trials], search.room, bench.folder / "cache", folder)
    each = found.wall / search.trials
    if search.case == "packs":
        packs.append(each)
    yield Measured(search.case, {
        "trials": search.trials,
        "at once": min(search.room.concurrent, search.trials),
        "wall s": found.wall,
        "wall s a trial": each,
        "times packs": each / packs[0] if packs else None,
        "CPU s": found.cpu,
        "MiB": found.peak_mib,
        "target Dice": sum(found.dice) / len(found.dice),
    })  # fmt: skip


def _configs(bench: Bench) -> list[TrialConfig]:
    """Settings of one signature: on a GPU LoRA everywhere, on a CPU in the decoder alone, where packs pay."""
    import optuna

    from benchmarks.makespan import base, drawn
    from sam2lora.training.session import open_sets

    name, size = bench.form.usual[0]
    native, many = min(size, 512), 34 if bench.cuda else 8
    source, target = (Synthetic(hospital=place, images=images, size=native) for place, images in _places(many))
    start: Any = replace(
        base(native), backbone=backbone(name), image_size=size, protocol=Transfer(sources=(source,), targets=(target,))
    )
    start = replace(start, precision="bfloat16") if bench.cuda else replace(start, epochs=1)
    open_sets((source, target), size, bench.runtime())  # drawn before anything is timed
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [drawn(study.ask(), start, LoRA() if bench.cuda else LoRA(encoder="none")) for _ in range(_TRIALS)]


def _places(many: int) -> tuple[tuple[Any, int], tuple[Any, int]]:
    return ("dogwood", many), ("alder", min(many, 10))
