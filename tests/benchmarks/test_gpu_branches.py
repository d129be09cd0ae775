"""What the timed parts do on a GPU alone, run on a CPU that stands in for one: every line of it, with numbers."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu.bench import SMALL, Bench
from benchmarks.gpu.lines import Broken, Law, Line, Measured, Skipped
from benchmarks.gpu.parts.capture import _attempts
from benchmarks.gpu.parts.deterministic import deterministic
from benchmarks.gpu.parts.launches import launches
from benchmarks.gpu.parts.makespan import _configs, _searches
from benchmarks.gpu.parts.steps import steps
from sam2lora.training.memory import free_mib, taking


@dataclass(frozen=True)
class Pretended(Bench):
    """A bench that takes its CPU for a GPU."""

    @property
    def cuda(self) -> bool:
        return True


class Event:
    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.when = time.perf_counter()

    def elapsed_time(self, end: Event) -> float:
        return 1000 * (end.when - self.when)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    calls: dict[str, Callable[..., Any]] = {
        "Event": Event,
        "synchronize": lambda device: None,
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda device: None,
        "memory_allocated": lambda device: 2**20,
        "memory_reserved": lambda device: 2**21,
        "max_memory_allocated": lambda device: 3 * 2**20,
        "mem_get_info": lambda device: (2**34, 2**35),
        "set_sync_debug_mode": lambda mode: None,
    }
    for name, call in calls.items():
        monkeypatch.setattr(torch.cuda, name, call)
    monkeypatch.setattr("benchmarks.gpu.bench.free_mib", lambda device: free_mib("cuda"))
    monkeypatch.setattr("benchmarks.gpu.memory.taking", lambda device: taking("cuda"))
    for part in ("steps", "launches", "deterministic"):
        monkeypatch.setattr(sys.modules[f"benchmarks.gpu.parts.{part}"], "PRECISIONS", ("float32",))
    monkeypatch.setattr(sys.modules["benchmarks.gpu.parts.launches"], "_PACKS", (0, 2))
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    form = replace(SMALL, packs=(1, 2), repeated=0.01)
    return Pretended("cpu", form, tmp_path, time.monotonic() + 200)


@pytest.mark.parametrize("part", [steps, launches, deterministic])
def test_every_line_has_numbers(bench: Bench, part: Callable[[Bench], Iterator[Line]]) -> None:
    found = list(part(bench))
    assert [line for line in found if isinstance(line, Skipped | Broken)] == []
    assert all(line.holds for line in found if isinstance(line, Law))
    for line in found:
        assert isinstance(line, Measured | Law)
        assert all(isinstance(value, float | int) or value is None for value in line.values.values())
    assert found
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_wait_in_a_step_breaks_the_law_and_says_where(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    true = torch.nn.utils.clip_grad_norm_

    def synchronizing(*given: Any) -> torch.Tensor:
        if modes[-1:] == ["error"]:
            raise RuntimeError("called a synchronizing CUDA operation\nat some place")
        return true(*given)

    monkeypatch.setattr("sam2lora.training.loop.clip_grad_norm_", synchronizing)
    law = next(line for line in launches(bench) if isinstance(line, Law))
    assert not law.holds
    assert str(law.values["waits for"]).startswith("called a synchronizing CUDA operation (test_gpu_branches.py:")
    assert modes[:2] == ["error", "default"]


def test_a_pack_without_room_is_skipped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**20, 2**35))
    found = [line for line in steps(bench) if isinstance(line, Skipped)]
    assert found == [Skipped("nano, 64 px, float32, pack of 2", "it would need 4 MiB, 2 are free")]


def test_graphs_are_tried_before_compilers(bench: Bench) -> None:
    cases = [attempt.case for attempt in _attempts(bench)]
    assert cases[0] == "CUDA graph, alone, bfloat16"
    assert [case.partition(",")[0] for case in cases] == 4 * ["CUDA graph"] + 4 * ["compiled"]


def test_the_glue_is_tried_with_shares_of_a_gpu(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr("harness.execution.slots.usable_cores", lambda: 16)
    packs, *glue = _searches(bench)
    assert (packs.room.residents, packs.room.engines, packs.trials) == (8, 1, 8)
    shares = [(search.room.gpus, search.room.concurrent, search.trials) for search in glue]
    assert shares == [(0.25, 4, 8), (0.125, 8, 8), (0.5, 2, 4), (1.0, 1, 2)]
    assert {config.precision for config in _configs(bench)} == {"bfloat16"}
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == "", "a part's settings are its process's"
