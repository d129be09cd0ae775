"""How long a training step takes, phase by phase, and how many trials take a second, alone and in packs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product

from benchmarks.gpu.bench import PRECISIONS, Bench, Case, Name, config, lines
from benchmarks.gpu.lines import Line, Measured, Skipped
from benchmarks.gpu.memory import peak
from benchmarks.gpu.timing import Company, case, company, phases, repetitions, seconds
from sam2lora.config import TrialConfig
from sam2lora.training.batches import batches
from sam2lora.training.session import pristine

_FIRST: tuple[tuple[Name, int], ...] = (("tiny", 512), ("large", 512), ("tiny", 1024), ("large", 1024))
"""What a reader wants to know before the rest."""
_LONGEST = 15.0
"""Seconds of a case; one that would take longer is skipped."""
_STEPS = 8
"""How many steps a case takes at least, all in all."""


@dataclass(frozen=True)
class Taken:
    """What a case took: seconds of a step and of its batch, trial-steps a second, MiB at the peak."""

    step: float
    batch: float
    rate: float
    mib: float


def steps(bench: Bench) -> Iterator[Line]:
    """For each backbone, size and precision a lone trial without a pack, then packs.

    Times are those of a step: of its phases, of making its batch, and of all in the run of an epoch, where the next
    batch is made meanwhile.
    """
    yield from lines(bench, _cases(bench))


def _cases(bench: Bench) -> Iterator[Case]:
    form = bench.form
    asked = list(product(form.backbones, form.sizes))
    first = [one for one in _FIRST if one in asked]
    # All of one backbone and size come after one another, which share its frozen weights.
    for name, size in [*first, *(one for one in asked if one not in first)]:
        for precision in reversed(PRECISIONS):
            earlier: dict[int, Taken] = {}
            for trials in (0, *form.packs):
                what = case(name, size, precision, trials)
                yield what, partial(_timed, bench, what, config(name, size, precision=precision), trials, earlier)


def _timed(bench: Bench, what: str, asked: TrialConfig, trials: int, earlier: dict[int, Taken]) -> Iterator[Line]:
    if why := _too_much(bench, trials, earlier):
        yield Skipped(what, why)
        return
    pristine(asked.backbone, asked.image_size, bench.runtime())  # so that its weights are no trial's memory
    made: list[Company] = []
    mib = peak(bench, lambda: made.append(_warm(bench, asked, trials)))
    parts = made[0].within_step(partial(phases, bench))
    step = sum(parts.values())
    count = repetitions(bench, step, least=3)
    wall = seconds(bench, lambda: made[0].epoch(count))
    batch = earlier[0].batch if earlier else seconds(bench, lambda: list(batches(made[0].sessions[0], 1))) / count
    taken = earlier[trials] = Taken(step, batch, made[0].trials * count / wall, mib)
    yield Measured(what, {
        **{f"{phase} ms": 1000 * part for phase, part in parts.items()},
        "batch ms": 1000 * batch,
        "in an epoch ms": 1000 * wall / count,
        "ms a trial-step": 1000 / taken.rate,
        "trial-steps a second": taken.rate,
        "times alone": taken.rate / earlier[0].rate if 0 in earlier else None,
        "MiB": mib,
        "MiB of a further trial": (mib - earlier[1].mib) / (trials - 1) if trials > 1 and 1 in earlier else None,
    })  # fmt: skip


def _too_much(bench: Bench, trials: int, earlier: dict[int, Taken]) -> str | None:
    """Why a pack is skipped, as the largest one before it lets expect."""
    if not earlier:
        return None
    before = max(earlier)
    more = trials / max(before, 1)
    mib, longest = more * earlier[before].mib, more * _STEPS * earlier[before].step
    if mib > bench.free_mib():
        return f"it would need {mib:.0f} MiB, {bench.free_mib():.0f} are free"
    return f"it would take {longest:.0f} s, {_LONGEST:.0f} are given to a case" if longest > _LONGEST else None


def _warm(bench: Bench, asked: TrialConfig, trials: int) -> Company:
    made = company(bench, asked, trials)
    made.epoch(2)
    return made
