"""A training step as it is, again and again on one batch, and how long it and its phases take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice, pairwise
from typing import Any, TypeVar
from unittest.mock import patch

import torch

from benchmarks.gpu.bench import Bench, Name, Precision
from sam2lora.config import Replicate, TrialConfig
from sam2lora.training import loop, packing
from sam2lora.training.loop import Advanced, Forward, Lane
from sam2lora.training.session import Session, start

T = TypeVar("T")

PHASES = ("forward", "backward", "optimizer")
"""Of a step: logits and losses; gradients; their norm, their clipping and the optimizer."""


@dataclass(frozen=True)
class Company:
    """Trials that train together. Without ``packed`` it is a lone trial without a pack."""

    sessions: Sequence[Session]
    packed: bool

    @property
    def trials(self) -> int:
        """How many train together."""
        return len(self.sessions)

    def epoch(self, steps: int) -> int:
        """Train for an epoch of so many steps, without validation; the trial-steps. Neither curve nor epoch moves on.

        An image is seen several times where there are too few.
        """
        for session in self.sessions:
            images = steps * session.config.batch_size * session.config.accumulate
            session.training = tuple(islice(cycle(session.training), images))
        if self.packed:
            lanes = packing.advance(self.sessions)
        else:
            self.sessions[0].segmenter.train()
            lanes = loop.lockstep(self.sessions, loop.SingleForward(self.sessions[0]))
        return sum(lane.step for lane in lanes)

    def within_step(self, work: Callable[[Step], T]) -> T:
        """What ``work`` makes of a step of all, in an epoch's first step: with all that surrounds it in place."""
        made: list[T] = []
        true = loop.step

        def instead(
            lanes: Sequence[Lane], forward: Forward, given: Sequence[loop.Step], places: Sequence[int]
        ) -> list[Advanced]:
            made.append(work(Step(true, lanes, forward, given, places)))
            return true(lanes, forward, given, places)

        with patch.object(loop, "step", instead):
            self.epoch(1)
        return made[0]


@dataclass(frozen=True)
class Step:
    """``sam2lora.training.loop.step`` and what it works on. It is taken by a call, as often as one likes."""

    true: Callable[[Sequence[Lane], Forward, Sequence[loop.Step], Sequence[int]], list[Advanced]]
    lanes: Sequence[Lane]
    forward: Forward
    given: Sequence[loop.Step]
    places: Sequence[int]

    def __call__(self) -> list[Advanced]:
        """Take a step of every trial."""
        return self.true(self.lanes, self.forward, self.given, self.places)


def case(name: Name, size: int, precision: Precision, trials: int) -> str:
    """What is measured, in words; without ``trials`` it is a lone one without a pack."""
    return f"{name}, {size} px, {precision}, {f'pack of {trials}' if trials else 'alone'}"


def company(bench: Bench, config: TrialConfig, trials: int) -> Company:
    """Trials of equal settings that share their images, in a pack; 0: a lone one without a pack."""
    return Company([start(config, Replicate(), bench.runtime()) for _ in range(max(trials, 1))], trials > 0)


def seconds(bench: Bench, work: Callable[[], object]) -> float:
    """Wall seconds until the device has done ``work``."""
    bench.synchronize()
    begun = time.perf_counter()
    work()
    bench.synchronize()
    return time.perf_counter() - begun


def repetitions(bench: Bench, once: float, least: int = 2, most: int = 10) -> int:
    """How often something that takes ``once`` seconds is repeated."""
    return min(max(int(bench.form.repeated / max(once, 1e-9)), least), most)


def median(bench: Bench, work: Callable[[], object]) -> float:
    """Median wall seconds of ``work``, which runs once more to warm up."""
    once = seconds(bench, work)
    return statistics.median(seconds(bench, work) for _ in range(repetitions(bench, once)))


def phases(bench: Bench, step: Step) -> dict[str, float]:
    """Median seconds of each of ``PHASES`` in steps that follow one another without a wait."""
    rounds = repetitions(bench, seconds(bench, step))
    moments: list[list[Any]] = []
    true = loop._backward

    def backward(objectives: Sequence[torch.Tensor]) -> None:
        moments[-1].append(_moment(bench))
        true(objectives)
        moments[-1].append(_moment(bench))

    with patch.object(loop, "_backward", backward):
        for _ in range(rounds):
            moments.append([_moment(bench)])
            step()
            moments[-1].append(_moment(bench))
    bench.synchronize()
    taken = zip(*([_between(*pair) for pair in pairwise(four)] for four in moments), strict=True)
    return dict(zip(PHASES, map(statistics.median, taken), strict=True))


def _moment(bench: Bench) -> Any:
    """Now on a CPU; on a GPU when it comes to this place of its queue."""
    if not bench.cuda:
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _between(begin: Any, end: Any) -> float:
    return float(end - begin if isinstance(begin, float) else begin.elapsed_time(end) / 1000)
