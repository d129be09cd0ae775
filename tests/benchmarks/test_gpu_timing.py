"""What the check of a GPU times is the step of the harness, and what it counts is what was asked."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch._C._autograd import DeviceType

from benchmarks.gpu import timing
from benchmarks.gpu.bench import SMALL, Bench, config
from benchmarks.gpu.parts.launches import _waits, counts
from sam2lora.training import loop
from sam2lora.training.loop import Advanced


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench("cpu", SMALL, tmp_path, time.monotonic() + 100)


@pytest.mark.parametrize(("trials", "expected"), [(0, 3), (1, 3), (2, 6)])
def test_an_epoch_has_as_many_steps_as_are_asked_for(bench: Bench, trials: int, expected: int) -> None:
    company = timing.company(bench, config("nano", 64), trials)
    assert company.epoch(3) == expected
    assert company.epoch(1) == expected / 3


@pytest.mark.parametrize("trials", [0, 2])
def test_a_step_within_an_epoch_is_that_epochs(bench: Bench, trials: int) -> None:
    def losses(advanced: list[Advanced]) -> list[float]:
        return [float(one.objective.detach()) for one in advanced]

    def first() -> list[float]:
        torch.manual_seed(0)
        return timing.company(bench, config("nano", 64), trials).within_step(lambda step: losses(step()))

    seen: list[list[float]] = []
    true = loop.step
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loop, "step", lambda *given: (advanced := true(*given), seen.append(losses(advanced)))[0])
        torch.manual_seed(0)
        timing.company(bench, config("nano", 64), trials).epoch(1)
    assert seen == [first()]


def test_the_phases_are_the_whole_step(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(ticks)))
    found = timing.company(bench, config("nano", 64), 0).within_step(lambda step: timing.phases(bench, step))
    assert found == {"forward": 1.0, "backward": 1.0, "optimizer": 1.0}


def event(name: str, begin: int, *, device: bool = False) -> SimpleNamespace:
    lasts = 100 if name == "one step" else 2
    return SimpleNamespace(
        name=lambda: name,
        start_ns=lambda: begin,
        end_ns=lambda: begin + lasts,
        duration_ns=lambda: lasts,
        device_type=lambda: DeviceType.CUDA if device else DeviceType.CPU,
    )


def test_calls_count_while_the_step_runs_and_work_of_the_device_whenever_it_runs() -> None:
    found = counts([
        event("one step", 10),
        event("one step", 10, device=True),
        event("cudaLaunchKernel", 20),
        event("cuLaunchKernelEx", 30),
        event("cudaMemcpyAsync", 35),
        event("cudaStreamSynchronize", 40),
        event("Optimizer.step#AdamW.step", 45),
        event("cudaDeviceSynchronize", 120),
        event("gemm", 200, device=True),
        event("Memcpy HtoD (Pageable -> Device)", 210, device=True),
        event("Memset (Device)", 220, device=True),
        event("Optimizer.step#AdamW.step", 200, device=True),
    ])  # fmt: skip
    assert found == {
        "launches": 2, "kernels": 1, "waits": 1, "copies to the device": 1, "copies to the host": 0,
        "device busy ms": 6e-6,
    }  # fmt: skip


def test_a_wait_within_a_step_is_named(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    true = loop._update

    def waiting(lane: loop.Lane) -> torch.Tensor | None:
        norm = true(lane)
        assert norm is not None
        norm.item()
        return norm

    lone = timing.company(bench, config("nano", 64), 0)
    assert lone.within_step(partial(_waits, bench)) is None
    monkeypatch.setattr(loop, "_update", waiting)
    assert lone.within_step(partial(_waits, bench)) == "_local_scalar_dense"
