"""What is to be gained where a step is compiled, or captured in a CUDA graph: tried from outside, nothing is built in.

An attempt that fails is no fault of the device: its line says how it ended. Each has a process of its own, which a
broken capture or a crash of a compiler leaves unusable.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench, Precision, config, lines
from benchmarks.gpu.lines import Law, Line, Measured, Value
from benchmarks.gpu.process import Ended, results
from benchmarks.gpu.timing import Step, company, median, seconds
from sam2lora.adapters import LoRA
from sam2lora.training.loop import Advanced, Forward, Output, Seen
from sam2lora.training.packing import PackedForward

_PACK = 8
_TOLERANCE = 1e-4
"""Largest relative difference of a loss."""
_STEPS = 3


@dataclass(frozen=True)
class Attempt:
    """A way of taking a step. ``exact``: in float32 and without dropout, so that the same losses must come of it."""

    case: str
    trials: int
    exact: bool
    work: Callable[[Bench, Step], dict[str, Value]]


def capture(bench: Bench) -> Iterator[Line]:
    """CUDA graphs of whole steps, then ``torch.compile`` of forward passes; on a CPU only what it can trace.

    A compilation takes a minute or more, which ``--parts capture --minutes 10`` gives it.
    """
    yield from lines(bench, [(one.case, partial(_tried, bench, one)) for one in _attempts(bench)])


def _attempts(bench: Bench) -> Iterator[Attempt]:
    if not bench.cuda:
        yield Attempt("traced, pack of 2", 2, True, partial(_compiled, backend="aot_eager"))
        return
    companies = {0: "alone", _PACK: f"pack of {_PACK}"}
    for (trials, name), exact in product(companies.items(), (False, True)):
        how = "float32 without dropout" if exact else "bfloat16"
        yield Attempt(f"CUDA graph, {name}, {how}", trials, exact, _captured)
    for mode, (trials, name) in product(("default", "reduce-overhead"), companies.items()):
        yield Attempt(f"compiled, {mode}, {name}, bfloat16", trials, False, partial(_compiled, mode=mode))


def _tried(bench: Bench, attempt: Attempt) -> Iterator[Line]:
    """The lines of an attempt; where its process ends early, how."""
    *found, ended = results(lambda: _made(bench, attempt), max(bench.deadline - time.monotonic(), 1.0))
    yield from found
    assert isinstance(ended, Ended)
    if ended.why is not None:
        yield _failed(attempt, ended.why.strip().rpartition("\n")[2])


def _failed(attempt: Attempt, why: str) -> Line:
    return Measured(attempt.case, {"works": False, "why not": why})


def _made(bench: Bench, attempt: Attempt) -> Iterator[Line]:
    name, size = bench.form.usual[0]
    precision: Precision = "float32" if attempt.exact else "bfloat16"
    adapter = LoRA(rank=8, alpha=16.0, dropout=0.0 if attempt.exact else 0.1)
    group = company(bench, config(name, size, precision=precision, adapters=(adapter,)), attempt.trials)
    group.epoch(2)
    try:
        values = group.within_step(partial(attempt.work, bench))
    except Exception as error:
        yield _failed(attempt, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
        return
    yield Measured(attempt.case, {"works": True, **values})
    apart = values["loss, relative"]
    if attempt.exact and isinstance(apart, float):
        yield Law(f"{attempt.case}: the same losses", apart <= _TOLERANCE, {"loss, relative": apart})


def _compiled(bench: Bench, step: Step, mode: str | None = None, backend: str = "inductor") -> dict[str, Value]:
    """The forward pass by ``torch.compile``, with the backward pass that comes of it; the rest is as it was."""
    before, start = median(bench, step), _copied(step)
    expected = _losses(step, start, lambda: step())
    call = torch.compile(step.forward.__call__, mode=mode, backend=backend)
    fast = replace(step, forward=_Compiled(step.forward, call))
    took = seconds(bench, fast)
    found = _losses(step, start, lambda: fast())
    breaks = torch._dynamo.utils.counters["graph_break"]
    return {
        **_gain(before, median(bench, fast)),
        "to compile s": took,
        "loss, relative": _apart(found, expected),
        "graphs": torch._dynamo.utils.counters["stats"]["unique_graphs"],
        "graph breaks": sum(breaks.values()),
        "first break": next(iter(breaks), "").partition("\n")[0],
    }


@dataclass(frozen=True)
class _Compiled:
    """``true``, called in another way."""

    true: Forward
    call: Callable[[Sequence[Seen], Sequence[int]], Sequence[Output]]

    def __call__(self, given: Sequence[Seen], places: Sequence[int]) -> Sequence[Output]:
        return self.call(given, places)

    def zero_grad(self) -> None:
        self.true.zero_grad()

    @property
    def generators(self) -> Sequence[torch.Generator]:
        return self.true.generators


def _captured(bench: Bench, step: Step) -> dict[str, Value]:
    """A whole step as a CUDA graph: forward, losses, backward, clipping and the optimizer."""
    before, start = median(bench, step), _copied(step)
    expected = _losses(step, start, lambda: step())
    for lane in step.lanes:
        for group in lane.session.optimizer.param_groups:
            group["capturable"] = True
    # Warm up on a stream that is not the default one: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
    aside, usual = torch.cuda.Stream(bench.device), torch.cuda.current_stream(bench.device)  # type: ignore[no-untyped-call]
    aside.wait_stream(usual)
    with torch.cuda.stream(aside):
        for _ in range(3):
            step()
    usual.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    for generator in _generators(step):
        graph.register_generator_state(generator)
    made: list[Advanced] = []

    def record() -> None:
        with torch.cuda.graph(graph):
            made.extend(step())

    def replay() -> list[Advanced]:
        graph.replay()
        return made

    took = seconds(bench, record)
    found = _losses(step, start, replay)
    return {**_gain(before, median(bench, replay)), "to capture s": took, "loss, relative": _apart(found, expected)}


def _generators(step: Step) -> list[torch.Generator]:
    """Those that a pack's dropout draws from; a lone trial's is torch's, which a graph knows."""
    return list(step.forward.generators) if isinstance(step.forward, PackedForward) else []


def _gain(before: float, after: float) -> dict[str, Value]:
    return {"step ms": 1000 * before, "so ms": 1000 * after, "step / so": before / after}


def _changed(step: Step) -> list[Tensor]:
    """What a step changes: Parameters, and the state of their optimizers."""
    states = [state for lane in step.lanes for state in lane.session.optimizer.state.values()]
    kept = [tensor for state in states for tensor in state.values() if isinstance(tensor, Tensor)]
    return [parameter.detach() for lane in step.lanes for parameter in lane.trainable] + kept


def _copied(step: Step) -> list[Tensor]:
    return [tensor.clone() for tensor in _changed(step)]


def _losses(step: Step, start: Sequence[Tensor], take: Callable[[], Sequence[Advanced]]) -> list[float]:
    """Of all trials in some steps from ``start``."""
    for tensor, value in zip(_changed(step), start, strict=True):
        tensor.copy_(value)
    return [float(one.objective.detach()) for _ in range(_STEPS) for one in take()]


def _apart(found: Sequence[float], expected: Sequence[float]) -> float:
    return float(np.max([abs(a - b) / abs(b) for a, b in zip(found, expected, strict=True)]))  # NaN where one is
