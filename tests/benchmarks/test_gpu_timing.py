"""What the check of a GPU times is the step of the harness, and what it counts is what was asked."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import timing
from benchmarks.gpu.bench import SMALL, Bench, config
from sam2lora import train
from sam2lora.train import Advanced


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
    true = train.step
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(train, "step", lambda *given: (advanced := true(*given), seen.append(losses(advanced)))[0])
        torch.manual_seed(0)
        timing.company(bench, config("nano", 64), trials).epoch(1)
    assert seen == [first()]


def test_the_phases_are_the_whole_step(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(1000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(ticks)))
    found = timing.company(bench, config("nano", 64), 0).within_step(lambda step: timing.phases(bench, step))
    assert found == {"forward": 1.0, "backward": 1.0, "optimizer": 1.0}
