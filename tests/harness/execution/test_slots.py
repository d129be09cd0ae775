"""How trials share a machine or a cluster, and when packs are worth it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.errors import ClusterError
from harness.execution.slots import Slots, share_machine, spread, worth_packing
from sam2lora.adapters import Full, LoRA
from sam2lora.config import TrialConfig


@pytest.mark.parametrize(
    ("devices", "share", "packed", "room"),
    [
        (0, None, False, Slots(2, 1.0, 0.0)),
        (0, None, True, Slots(8, 1.0, 0.0, residents=4)),
        (0, 0.0, True, Slots(8, 1.0, 0.0, residents=4)),
        (1, None, False, Slots(1, 2.0, 1.0)),
        (1, None, True, Slots(8, 2.0, 1.0, residents=8)),
        (2, 0.25, True, Slots(8, 1.0, 1.0, residents=4)),
        (2, 0.25, False, Slots(8, 0.25, 0.25)),
        (4, 2.0, True, Slots(2, 1.0, 2.0)),
        (2, 0.0, True, Slots(8, 1.0, 0.0, residents=4)),
    ],
)
def test_slots_of_a_machine_with_two_cores(
    devices: int, share: float | None, packed: bool, room: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.execution.slots.usable_cores", lambda: 2)
    monkeypatch.setattr("harness.execution.slots.torch.cuda.device_count", lambda: devices)
    assert share_machine(share, packed) == room
    assert room.engines == (0 if room.residents == 1 else room.concurrent // room.residents)


def test_a_cluster_has_the_slots_of_its_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.execution.slots.usable_cores", lambda: 2)
    monkeypatch.setattr("harness.execution.slots.torch.cuda.device_count", lambda: 2)
    room = Slots(8, cpus=1.0, gpus=1.0, residents=4)
    assert spread(room, {"CPU": 8.0, "GPU": 6.0}) == replace(room, concurrent=24)
    assert spread(room, {"CPU": 2.0, "GPU": 6.0}) == room, "its CPUs bound it"
    assert spread(Slots(2, 1.0, 0.0), {"CPU": 5.0}).concurrent == 5
    with pytest.raises(ClusterError, match="must have 1 CPUs and 1 GPUs for a trial, but has 8 and 0"):
        spread(room, {"CPU": 8.0})


def test_packs_are_for_trials_that_are_faster_together(tiny: TrialConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = replace(tiny, adapters=(LoRA(encoder="none"),))
    assert not worth_packing([decoder, decoder], None), "a CPU gains less than the actors cost"
    monkeypatch.setattr("harness.execution.slots.torch.cuda.device_count", lambda: 1)
    assert worth_packing([tiny, tiny], None)
    assert not worth_packing([tiny, tiny], 0.0), "the CPU was asked for"
    assert not worth_packing([replace(tiny, adapters=(Full(),)), replace(tiny, adapters=())], None)
