"""The bridge between Optuna and Ray Tune, on a real Ray, with trials whose endings are scripted."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import ray
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, TrialState
from ray import tune

from harness.constraints import TrainableShare
from harness.errors import ClusterError, Hopeless
from harness.execution import ray_tune
from harness.execution.messages import Order
from harness.execution.ray_tune import Slots
from harness.execution.searcher import Suggest, rebuild
from harness.execution.trainable import result_of
from harness.record import study as recorded
from harness.record.study import Record
from harness.schedulers import ASHA
from sam2lora.adapters import Frozen, Full, LoRA
from sam2lora.artifacts import RESULT
from sam2lora.choice import from_json, to_json
from sam2lora.config import Replicate, TrialConfig
from sam2lora.runtime import Runtime

FATES = ("good", "bad", "diverges", "no room", "bug", "killed once", "old")
EPOCHS = 4


class Scripted(tune.Trainable):
    """A trial that ends as its ``clip_norm`` says. ``clip_norm - 1`` is the index of its fate."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.order: Order = new_config["order"]
        clip = from_json(TrialConfig, self.order.config).clip_norm
        assert clip is not None
        self.fate = FATES[int(clip) - 1]
        self.epoch = 0
        return True

    def step(self) -> dict[str, Any]:
        self.epoch += 1
        folder = Path(self.order.folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self.fate == "bug" and self.epoch == 2:
            with (folder / "tries").open("a") as tries:
                tries.write(".")
            raise RuntimeError("a bug in the second epoch")
        if self.fate == "killed once" and self.epoch == 2 and not (folder / "killed").exists():
            (folder / "killed").touch()
            os.kill(os.getpid(), 9)
        if self.fate == "diverges" and self.epoch == 3:
            return result_of(self._ending("diverged"))
        if self.fate == "no room":
            return result_of(self._ending("out_of_memory"))
        score = (0.1 if self.fate == "bad" else 0.6) + self.epoch / 100
        item = {
            "epoch": self.epoch,
            "score": score,
            "entry": {"epoch": self.epoch, "score": score},
            "cost": {"train_seconds": float(self.epoch)},
            "ending": None,
            "why": "",
        }
        if self.epoch == EPOCHS:
            scores = {"scores": {"cedar/dice": 0.5}, "n_images": {"cedar": 4}, "roles": {"cedar": "target"}}
            judged = {"validation": {"alder/dice": score}, "undefined": {}, "threshold": 0.5}
            told = {name: value for name, value in judged.items() if self.fate != "old" or name == "validation"}
            (folder / RESULT).write_text(json.dumps({**scores, **told}))
            item["ending"] = "completed"
        return result_of(item)

    def _ending(self, ending: str) -> dict[str, Any]:
        return {"epoch": self.epoch, "entry": None, "cost": {}, "ending": ending, "why": f"{ending} on purpose"}


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []

    def began(self, trial: FrozenTrial) -> None:
        self.events.append(("began", trial.number))

    def advanced(self, trial: FrozenTrial, entry: Mapping[str, float]) -> None:
        self.events.append(("advanced", trial.number))

    def ended(self, trial: FrozenTrial) -> None:
        assert trial.state.is_finished()
        self.events.append(("ended", trial.number))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slots]:
    room = Slots(concurrent=2, cpus=1.0, gpus=0.0)
    with ray_tune.cluster(room):
        yield room
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("address", "raised", "remedy"),
    [
        (None, Exception("The current node timed out during startup."), "when the machine is less busy"),
        ("10.0.0.1:6379", ConnectionError("Failed to connect"), "unset it"),
    ],
)
def test_ray_that_cannot_be_had_is_one_message(
    address: str | None, raised: Exception, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise raised

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ClusterError) as told, ray_tune.cluster(Slots(concurrent=1, cpus=1.0, gpus=0.0)):
        pytest.fail("the run must not begin")
    message = str(told.value)
    assert all(part in message for part in (str(raised), "$RAY_ADDRESS", remedy, address or "30 s"))


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
    monkeypatch.setattr("harness.execution.ray_tune.psutil.cpu_count", lambda logical: 2)
    monkeypatch.setattr("harness.execution.ray_tune.torch.cuda.device_count", lambda: devices)
    monkeypatch.setattr("harness.execution.ray_tune.psutil.Process.cpu_affinity", lambda process: [0, 1])
    assert ray_tune.slots(share, packed) == room
    assert room.engines == (0 if room.residents == 1 else room.concurrent // room.residents)


def test_a_cluster_has_the_slots_of_its_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.execution.ray_tune._cores", lambda: 2)
    monkeypatch.setattr("harness.execution.ray_tune.torch.cuda.device_count", lambda: 2)
    room = Slots(8, cpus=1.0, gpus=1.0, residents=4)
    assert ray_tune.spread(room, {"CPU": 8.0, "GPU": 6.0}) == replace(room, concurrent=24)
    assert ray_tune.spread(room, {"CPU": 2.0, "GPU": 6.0}) == room, "its CPUs bound it"
    assert ray_tune.spread(Slots(2, 1.0, 0.0), {"CPU": 5.0}).concurrent == 5
    with pytest.raises(ClusterError, match="must have 1 CPUs and 1 GPUs for a trial, but has 8 and 0"):
        ray_tune.spread(room, {"CPU": 8.0})


def test_packs_are_for_trials_that_are_faster_together(tiny: TrialConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = replace(tiny, adapter=LoRA(encoder="none"))
    assert not ray_tune.packs([decoder, decoder], None), "a CPU gains less than the actors cost"
    monkeypatch.setattr("harness.execution.ray_tune.torch.cuda.device_count", lambda: 1)
    assert ray_tune.packs([tiny, tiny], None)
    assert not ray_tune.packs([tiny, tiny], 0.0), "the CPU was asked for"
    assert not ray_tune.packs([replace(tiny, adapter=Full()), replace(tiny, adapter=Frozen())], None)


def suggest(record: Record, tiny: TrialConfig, trials: int, heard: Heard | None = None) -> Suggest:
    def space(trial: optuna.Trial) -> TrialConfig:
        fate = trial.suggest_categorical("fate", FATES)
        size = trial.suggest_int("batch", 1, 64)
        return replace(tiny, clip_norm=float(FATES.index(fate) + 1), batch_size=size)

    listeners = [heard] if heard else []
    return Suggest(record, lambda trial: (space(trial), Replicate()), {"data": "x"}, Runtime(), trials, listeners)


def run(record: Record, ask: Suggest, room: Slots, retries: int = 1) -> None:
    scheduler = ASHA(grace=1, reduction=2).build(EPOCHS)
    rebuild(scheduler, record.trials())
    ray_tune.run(ask, scheduler, room, retries, trainable=Scripted)


def enqueue(record: Record, *fates: str) -> None:
    for batch, fate in enumerate(fates, start=1):
        record.study.enqueue_trial({"fate": fate, "batch": batch})


def test_every_ending_reaches_the_record_as_what_it_was(record: Record, tiny: TrialConfig, cluster: Slots) -> None:
    enqueue(record, "good", "good", "good", "bad", "diverges", "no room", "bug", "killed once")
    heard = Heard()
    run(record, suggest(record, tiny, 7, heard), cluster)
    ends = {t.number: (t.user_attrs["outcome"]["kind"], t.state, t.value) for t in record.trials()}
    assert [ends[n] for n in range(3)] == [("completed", TrialState.COMPLETE, pytest.approx(0.64))] * 3
    assert ends[3] == ("stopped", TrialState.PRUNED, pytest.approx(0.11))
    assert ends[4] == ("diverged", TrialState.COMPLETE, 0.0)
    assert ends[5] == ("out_of_memory", TrialState.PRUNED, None)
    assert ends[6] == ("crashed", TrialState.FAIL, None)
    assert ends[7] == ("completed", TrialState.COMPLETE, pytest.approx(0.64)), "a killed worker is started again"
    assert len(ends) == 8, "a crashed trial is replaced: it does not count"
    assert record.trial(5).constraints == {"memory": 1.0}
    assert "a bug in the second epoch" in record.trial(6).user_attrs["outcome"]["why"]
    assert (record.files(record.trial(6).user_attrs["key"]) / "tries").read_text() == "..", "one retry, then FAIL"
    for trial in record.trials():
        steps = sorted(trial.intermediate_values)
        assert steps == list(range(1, len(steps) + 1))
        assert [event for event, number in heard.events if number == trial.number].count("ended") == 1
    assert not [t for t in record.trials() if t.state == TrialState.RUNNING]


def test_a_result_sealed_before_counts_and_threshold_were_told_leaves_them_unknown(
    record: Record, tiny: TrialConfig, cluster: Slots
) -> None:
    enqueue(record, "old", "good")
    run(record, suggest(record, tiny, 2), cluster)
    old, new = record.trials()
    assert old.value == new.value
    assert old.user_attrs["scores"] == new.user_attrs["scores"]
    assert [(t.user_attrs["undefined"], t.user_attrs["threshold"]) for t in (old, new)] == [(None, None), ({}, 0.5)]


def test_equal_settings_are_trained_once(record: Record, tiny: TrialConfig, cluster: Slots) -> None:
    for _ in range(4):
        record.study.enqueue_trial({"fate": "good", "batch": 1})
    heard = Heard()
    run(record, suggest(record, tiny, 4, heard), cluster)
    trials = record.trials()
    assert [trial.value for trial in trials] == [trials[0].value] * 4
    assert [trial.user_attrs.get("reused_from") for trial in trials] == [None, 0, 0, 0]
    assert [event for event, _ in heard.events].count("began") == 1


def test_trials_that_an_earlier_run_left_open_come_first_and_others_are_not_run_again(
    record: Record, tiny: TrialConfig, cluster: Slots
) -> None:
    enqueue(record, "good", "good", "good", "good")
    killed = suggest(record, tiny, 3)
    orders = [killed.suggest("a"), killed.suggest("b")]  # the driver dies here
    orphan = record.study.ask()  # and here, between asking and writing down the settings
    run(record, suggest(record, tiny, 3), cluster)
    trials = record.trials()
    assert [trial.state for trial in trials if trial.number != orphan.number] == [TrialState.COMPLETE] * 3
    assert trials[orphan.number].state == TrialState.FAIL
    assert [trials[n].user_attrs["key"] for n in (0, 1)] == [order["key"] for order in orders]  # type: ignore[index]
    assert suggest(record, tiny, 3).wanted == 0


def test_trials_that_only_crash_end_the_run_with_the_reason(record: Record, tiny: TrialConfig, cluster: Slots) -> None:
    enqueue(record, *["bug"] * 8)
    with pytest.raises(Hopeless, match=r"3 crashed.*a bug in the second epoch"):
        run(record, suggest(record, tiny, 8), cluster, retries=0)
    assert sum(trial.state == TrialState.FAIL for trial in record.trials()) <= 4
    assert all(trial.state != TrialState.COMPLETE for trial in record.trials())


def test_a_space_that_raises_leaves_no_trial_open(record: Record) -> None:
    def broken(trial: optuna.Trial) -> tuple[TrialConfig, Replicate]:
        raise KeyError("rank")

    ask = Suggest(record, broken, {}, Runtime(), 3)
    with pytest.raises(KeyError, match="rank"):
        ask.suggest("a")
    assert [trial.state for trial in record.trials()] == [TrialState.FAIL]
    assert recorded.finished(record.trials()) == {}


def test_a_record_that_cannot_be_written_ends_the_run_with_its_cause(
    record: Record, tiny: TrialConfig, cluster: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageInternalError("during the commit") from sqlite3.OperationalError("database or disk is full")

    enqueue(record, "good", "good")
    monkeypatch.setattr(recorded, "tell", full)
    with pytest.raises(StorageInternalError) as fault:
        run(record, suggest(record, tiny, 2), cluster)
    said = str(recorded.unusable("sqlite:///runs/optuna.db", fault.value))
    assert "sqlite:///runs/optuna.db cannot be used: database or disk is full" in said
    assert "what was finished is kept" in said.lower()


def bounded(
    record: Record, tiny: TrialConfig, trials: int, ranks: tuple[int, ...], limit: int | None = None
) -> Suggest:
    """A search over ranks, of which those above 2 are infeasible."""

    def space(trial: optuna.Trial) -> TrialConfig:
        rank = trial.suggest_categorical("rank", ranks)
        return replace(tiny, adapter=replace(tiny.adapter, rank=rank))

    bound = TrainableShare(below=tiny.adapter.share(tiny.backbone) * 1.5)  # rank 2 meets it, rank 4 does not
    return Suggest(record, lambda trial: (space(trial), Replicate()), {}, Runtime(), trials, (), (bound,), limit)


def test_infeasible_settings_are_told_untrained_and_do_not_count(record: Record, tiny: TrialConfig) -> None:
    for rank in (4, 4, 2):
        record.study.enqueue_trial({"rank": rank})
    ask = bounded(record, tiny, 1, (2, 4))
    order = ask.suggest("a")
    assert isinstance(order, dict)
    assert order["key"] == record.trial(2).user_attrs["key"]
    assert ask.infeasible == 2
    assert ask.wanted == 1
    told = record.trial(0)
    assert (told.user_attrs["outcome"]["kind"], told.state, told.value) == ("infeasible", TrialState.COMPLETE, 0.0)
    assert "must be below" in told.user_attrs["outcome"]["why"]
    assert told.constraints["trainable_share"] > 0
    assert record.trial(2).constraints["trainable_share"] < 0
    again = bounded(record, tiny, 1, (2, 4))
    assert (again.infeasible, again.ended) == (2, 0)


def test_a_proposal_whose_refusal_was_interrupted_is_refused_and_not_trained(record: Record, tiny: TrialConfig) -> None:
    ask = bounded(record, tiny, 1, (2, 4))
    for rank in (4, 2):
        record.study.enqueue_trial({"rank": rank})
    trial = record.study.ask()
    recorded.begin(trial, "k", to_json(ask.propose(trial)[0]), to_json(Replicate()), oracle_prompt=False)  # driver dies
    order = bounded(record, tiny, 1, (2, 4)).suggest("a")
    assert isinstance(order, dict)
    assert record.trial(0).user_attrs["outcome"]["kind"] == "infeasible"
    assert order["key"] == record.trial(1).user_attrs["key"]


def test_endless_infeasible_proposals_come_to_an_end(
    record: Record, tiny: TrialConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.execution.searcher.INFEASIBLE_IN_A_ROW", 5)
    ask = bounded(record, tiny, 3, (4, 8, 16))
    assert ask.suggest("a") == Suggest.FINISHED
    assert ask.suggest("b") == Suggest.FINISHED
    assert len(record.trials()) == 5
    assert ask.hopeless is not None
    assert "5 proposals one after the other do not" in str(ask.hopeless)
    assert "Loosen the constraint" in str(ask.hopeless)


def test_a_grid_of_infeasible_cells_is_exhausted(record: Record, tiny: TrialConfig) -> None:
    for rank in (4, 8):
        record.study.enqueue_trial({"rank": rank})
    ask = bounded(record, tiny, 2, (4, 8), limit=2)
    assert ask.suggest("a") == Suggest.FINISHED
    assert ask.hopeless is None
    assert ask.wanted == 0
