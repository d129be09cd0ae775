"""Attempts at faster steps: where no GPU is, a stand-in for its graphs shows what is captured."""

from __future__ import annotations

import os
import signal
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import timing
from benchmarks.gpu.bench import SMALL, Bench, config
from benchmarks.gpu.lines import Measured
from benchmarks.gpu.parts.capture import Attempt, _captured, _tried


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench("cpu", SMALL, tmp_path, time.monotonic() + 100)


class Graph:
    """Of no GPU: a replay does nothing."""

    def __init__(self) -> None:
        self.generators: list[torch.Generator] = []
        graphs.append(self)

    def register_generator_state(self, generator: torch.Generator) -> None:
        self.generators.append(generator)

    def replay(self) -> None:
        pass


class Stream:
    def __init__(self, device: str) -> None:
        self.device = device

    def wait_stream(self, other: Stream) -> None:
        assert other is not self


graphs: list[Graph] = []


@pytest.mark.parametrize(("trials", "generators"), [(0, 0), (2, 1)])
def test_a_graph_knows_the_generators_of_a_pack(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, trials: int, generators: int
) -> None:
    fakes: dict[str, Any] = {
        "CUDAGraph": Graph, "Stream": Stream, "current_stream": Stream,
        "stream": lambda stream: nullcontext(), "graph": lambda graph: nullcontext(),
    }  # fmt: skip
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    group = timing.company(bench, config("nano", 64), trials)
    group.epoch(1)
    found = group.within_step(partial(_captured, bench))
    assert found.keys() == {"step ms", "so ms", "step / so", "to capture s", "loss, relative"}
    assert len(graphs.pop().generators) == generators
    assert float(str(found["loss, relative"])) > 0, "nothing was replayed: the stand-in's losses stand still"


def raises(bench: Bench, step: timing.Step) -> dict[str, Any]:
    raise RuntimeError("CUDA error: operation not permitted\nCompile with TORCH_USE_CUDA_DSA")


def crashes(bench: Bench, step: timing.Step) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


class Idle:
    """A company that does not train, which a process that is forked out of other tests could not."""

    def epoch(self, steps: int) -> None:
        pass

    def within_step(self, work: Any) -> Any:
        return work(None)


@pytest.mark.parametrize(
    ("work", "why"),
    [
        (raises, "RuntimeError: CUDA error: operation not permitted"),
        (crashes, "its process ended with SIGKILL"),
    ],
)
def test_an_attempt_that_fails_says_how_and_is_not_broken(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, work: Any, why: str
) -> None:
    monkeypatch.setitem(_tried.__globals__, "company", lambda *_: Idle())
    (line,) = _tried(bench, Attempt("a graph", 0, exact=False, work=work))
    assert line == Measured("a graph", {"works": False, "why not": why})
