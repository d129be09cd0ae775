from __future__ import annotations

from dataclasses import replace

import pytest

from harness.execution import memory_plan
from harness.execution.memory_plan import fitting
from sam2lora.config import TrialConfig
from sam2lora.errors import OutOfMemory
from sam2lora.runtime import Runtime
from sam2lora.training.memory import Need


def test_settings_that_do_not_fit_are_refused_with_the_numbers(
    tiny: TrialConfig, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_plan, "free_mib", lambda device: 1200.0)
    assert fitting([tiny], runtime, 8) == 1
    with pytest.raises(
        OutOfMemory, match=r"64 images of 512 pixels need about .* MiB.*1,200 MiB free: lower batch_size"
    ):
        fitting([tiny, replace(tiny, batch_size=64, image_size=512)], runtime, 8)


def test_fewer_trials_run_at_once_when_memory_is_short(
    tiny: TrialConfig, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_plan, "free_mib", lambda device: 4000.0)
    assert fitting([tiny], runtime, 8) == 3
    monkeypatch.setattr(memory_plan, "free_mib", lambda device: 400_000.0)
    assert fitting([tiny], runtime, 8) == 8


def test_trials_of_one_engine_share_what_a_process_takes(
    tiny: TrialConfig, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.execution.memory_plan.training_need", lambda config: Need(0.0, 50.0))
    free = {"cpu": 3500.0}
    monkeypatch.setattr(memory_plan, "free_mib", free.__getitem__)
    assert fitting([tiny], runtime, 8) == 3, "1100 and 50 MiB for each"
    assert fitting([tiny], runtime, 8, residents=4) == 4, "1100 MiB for every four, 250 and 50 for each"
    free["cpu"] = 10000.0
    assert fitting([tiny], runtime, 8, residents=4) == 8
    free["cpu"] = 3500.0
    monkeypatch.setattr("harness.execution.memory_plan.training_need", lambda config: Need(1000.0, 50.0))
    assert fitting([tiny], runtime, 8) == 1, "1100, 1000 and 50 MiB"
    assert fitting([tiny], runtime, 8, residents=4) == 4, "1100 and 1000 MiB for all, 250 and 50 for each"
