"""The bridge between Optuna and Ray Tune, on a real Ray, with trials whose endings are scripted."""

from __future__ import annotations

import itertools
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import ray
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState
from ray import tune

from harness.constraints import TrainableShare
from harness.errors import ClusterError, TooManyFailures
from harness.execution import ray_cluster, ray_tune
from harness.execution.messages import TrialOrder
from harness.execution.past_trials import rebuild
from harness.execution.ray_cluster import Cluster
from harness.execution.searcher import Propose, Searcher
from harness.execution.slots import Slots
from harness.execution.sources import Sampled
from harness.execution.trainable import result_of
from harness.record import optuna_writer
from harness.record.storage import unusable
from harness.record.study import Record
from harness.record.trials import RecordedTrial, standing_by_key
from harness.schedulers import ASHA
from sam2lora.adapters import share
from sam2lora.choice import from_json, to_json
from sam2lora.config import Replicate, TrialConfig
from sam2lora.files import RESULT
from sam2lora.runtime import Runtime

FATES = ("good", "bad", "diverges", "no room", "bug", "killed once", "old")
EPOCHS = 4


class Scripted(tune.Trainable):
    """A trial that ends as its ``clip_norm`` says. ``clip_norm - 1`` is the index of its fate."""

    def setup(self, config: dict[str, Any]) -> None:
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.order: TrialOrder = new_config["order"]
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
            "outcome": None,
            "why": "",
        }
        if self.epoch == EPOCHS:
            scores = {"scores": {"cedar/dice": 0.5}, "n_images": {"cedar": 4}, "roles": {"cedar": "target"}}
            judged = {"validation": {"alder/dice": score}, "undefined": {}, "threshold": 0.5}
            told = {name: value for name, value in judged.items() if self.fate != "old" or name == "validation"}
            (folder / RESULT).write_text(json.dumps({**scores, **told}))
            item["outcome"] = "completed"
        return result_of(item)

    def _ending(self, ending: str) -> dict[str, Any]:
        return {"epoch": self.epoch, "entry": None, "cost": {}, "outcome": ending, "why": f"{ending} on purpose"}


class Heard:
    """A listener that remembers, and cannot be pickled: the live table cannot, either."""

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []
        self.lock = threading.RLock()

    def began(self, trial: RecordedTrial) -> None:
        self.events.append(("began", trial.number))

    def advanced(self, trial: RecordedTrial, entry: Mapping[str, float]) -> None:
        self.events.append(("advanced", trial.number))

    def warned(self, trial: RecordedTrial, text: str) -> None:
        pass

    def ended(self, trial: RecordedTrial) -> None:
        assert trial.state.is_finished()
        self.events.append(("ended", trial.number))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ray_cluster.cluster(Slots(concurrent=2, cpus=1.0, gpus=0.0)) as cluster:
        yield cluster
    assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("address", "raised", "remedy"),
    [
        (None, Exception("The current node timed out during startup."), "when the machine is less busy"),
        ("10.0.0.1:6379", ConnectionError("Failed to connect"), "unset it"),
        (None, PermissionError(13, "Permission denied", "/.ray"), "set RAY_TMPDIR and HOME to folders that you can"),
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
    with pytest.raises(ClusterError) as told, ray_cluster.cluster(Slots(concurrent=1, cpus=1.0, gpus=0.0)):
        pytest.fail("the run must not begin")
    message = str(told.value)
    assert all(part in message for part in (str(raised), remedy, address or "Ray must"))


def test_a_folder_too_long_for_sockets_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_TMPDIR", "")
    monkeypatch.setenv("TMPDIR", "/" + "ü" * 50)
    with pytest.raises(ClusterError, match=r"a path of \d+ bytes at most, but /ü+/ray has 105: set RAY_TMPDIR"):
        ray_cluster.check_sockets()
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    ray_cluster.check_sockets()
    monkeypatch.setenv("RAY_TMPDIR", "/" + "x" * 105)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    ray_cluster.check_sockets()  # Ray runs elsewhere


def test_workers_start_where_the_path_of_the_interpreter_has_a_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my lab (1)").symlink_to(sys.prefix)
    interpreter = str(tmp_path / "my lab (1)" / "bin" / Path(sys.executable).name)
    monkeypatch.setattr(sys, "executable", interpreter)
    with ray_cluster.running(1):
        assert ray.get(ray.remote(lambda: sys.executable).remote(), timeout=60) == interpreter


def searching(record: Record, tiny: TrialConfig, trials: int, heard: Heard | None = None) -> Searcher:
    def space(trial: optuna.Trial) -> TrialConfig:
        fate = trial.suggest_categorical("fate", FATES)
        size = trial.suggest_int("batch", 1, 64)
        return replace(tiny, clip_norm=float(FATES.index(fate) + 1), batch_size=size)

    listeners = [heard] if heard else []
    return searcher(Sampled(record, trials), lambda trial: (space(trial), Replicate()), listeners=listeners)


def searcher(source: Sampled, propose: Propose, **more: Any) -> Searcher:
    return Searcher(source, propose, standing_by_key(source.record.trials()), {}, Runtime(), **more)


def run(record: Record, searcher: Searcher, cluster: Cluster, retries: int = 1) -> None:
    scheduler = ASHA(grace=1, reduction=2).build(EPOCHS)
    rebuild(scheduler, record.trials())
    ray_tune.run(searcher, scheduler, cluster, retries, trainable=Scripted)


def enqueue(record: Record, *fates: str) -> None:
    for batch, fate in enumerate(fates, start=1):
        record.study.enqueue_trial({"fate": fate, "batch": batch})


def listening() -> dict[tuple[str, int], str]:
    """The addresses on which this process and Ray's listen, each with the name of its process."""
    driver = psutil.Process()
    return {
        (socket.laddr.ip.removeprefix("::ffff:"), socket.laddr.port): process.name()
        for process in (driver, *driver.children(recursive=True))
        for socket in process.net_connections("inet")
        if socket.status == psutil.CONN_LISTEN
    }


def test_a_local_ray_is_reachable_from_this_machine_only(cluster: Cluster) -> None:
    ray.get(ray.remote(lambda: 1).remote())  # there is a worker
    found = listening()
    assert {"gcs_server", "raylet"} <= set(found.values())
    assert any(name.startswith("ray::") for name in found.values())
    assert {address for address, _ in found} == {"127.0.0.1"}, found
    elsewhere = [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    ]
    for address, (_, port) in itertools.product(elsewhere, found):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, port), timeout=10)


def test_a_local_ray_answers_only_those_who_know_its_token(cluster: Cluster) -> None:
    address = ray.get_runtime_context().gcs_address
    ask = f"from ray._raylet import GcsClient; GcsClient(address={address!r}).internal_kv_keys(b'', b'session', 5)"
    for token, status in ((os.environ["RAY_AUTH_TOKEN"], 0), ("0" * 64, 1)):
        environment = {**os.environ, "RAY_AUTH_TOKEN": token}
        asked = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True)
        assert asked.returncode == status, asked.stderr
    assert "Unauthenticated" in asked.stderr


def test_every_ending_reaches_the_record_as_what_it_was(record: Record, tiny: TrialConfig, cluster: Cluster) -> None:
    enqueue(record, "good", "good", "good", "bad", "diverges", "no room", "bug", "killed once")
    heard = Heard()
    run(record, searching(record, tiny, 7, heard), cluster)
    ends = {t.number: (t.outcome, t.state, *t.values) for t in record.trials()}
    assert [ends[n] for n in range(3)] == [("completed", TrialState.COMPLETE, pytest.approx(0.64))] * 3
    assert ends[3] == ("stopped", TrialState.PRUNED, pytest.approx(0.11))
    assert ends[4] == ("diverged", TrialState.COMPLETE, 0.0)
    assert ends[5] == ("out_of_memory", TrialState.PRUNED)
    assert ends[6] == ("crashed", TrialState.FAIL)
    assert ends[7] == ("completed", TrialState.COMPLETE, pytest.approx(0.64)), "a killed worker is started again"
    assert len(ends) == 8, "a crashed trial is replaced: it does not count"
    assert record.trial(5).constraints == {"memory": 1.0}
    assert "a bug in the second epoch" in record.trial(6).why
    assert (record.files(record.trial(6).key) / "tries").read_text() == "..", "one retry, then FAIL"
    for trial in record.trials():
        steps = sorted(trial.scores_by_epoch)
        assert steps == list(range(1, len(steps) + 1))
        assert [event for event, number in heard.events if number == trial.number].count("ended") == 1
    assert not [t for t in record.trials() if t.state == TrialState.RUNNING]


def test_a_result_sealed_before_counts_and_threshold_were_told_leaves_them_unknown(
    record: Record, tiny: TrialConfig, cluster: Cluster
) -> None:
    enqueue(record, "old", "good")
    run(record, searching(record, tiny, 2), cluster)
    old, new = record.trials()
    assert old.values == new.values
    assert old.scores == new.scores
    assert [(t.undefined, t.threshold) for t in (old, new)] == [(None, None), ({}, 0.5)]


def test_equal_settings_are_trained_once(record: Record, tiny: TrialConfig, cluster: Cluster) -> None:
    for _ in range(4):
        record.study.enqueue_trial({"fate": "good", "batch": 1})
    heard = Heard()
    run(record, searching(record, tiny, 4, heard), cluster)
    trials = record.trials()
    assert [trial.values for trial in trials] == [trials[0].values] * 4
    assert [trial.reused_from for trial in trials] == [None, 0, 0, 0]
    assert [event for event, _ in heard.events].count("began") == 1


def test_trials_that_an_earlier_run_left_open_come_first_and_others_are_not_run_again(
    record: Record, tiny: TrialConfig, cluster: Cluster
) -> None:
    enqueue(record, "good", "good", "good", "good")
    killed = searching(record, tiny, 3)
    orders = [killed.suggest("a"), killed.suggest("b")]  # the driver dies here
    orphan = record.study.ask()  # and here, between asking and writing down the settings
    run(record, searching(record, tiny, 3), cluster)
    trials = record.trials()
    assert [trial.state for trial in trials if trial.number != orphan.number] == [TrialState.COMPLETE] * 3
    assert trials[orphan.number].state == TrialState.FAIL
    assert [trials[n].key for n in (0, 1)] == [order["key"] for order in orders]  # type: ignore[index]
    assert searching(record, tiny, 3).wanted == 0


def test_trials_that_only_crash_end_the_run_with_the_reason(
    record: Record, tiny: TrialConfig, cluster: Cluster
) -> None:
    enqueue(record, *["bug"] * 8)
    with pytest.raises(TooManyFailures, match=r"3 crashed.*a bug in the second epoch"):
        run(record, searching(record, tiny, 8), cluster, retries=0)
    assert sum(trial.state == TrialState.FAIL for trial in record.trials()) <= 4
    assert all(trial.state != TrialState.COMPLETE for trial in record.trials())


def test_a_space_that_raises_leaves_no_trial_open(record: Record) -> None:
    def broken(trial: optuna.Trial) -> tuple[TrialConfig, Replicate]:
        raise KeyError("rank")

    ask = searcher(Sampled(record, 3), broken)
    with pytest.raises(KeyError, match="rank"):
        ask.suggest("a")
    assert [trial.state for trial in record.trials()] == [TrialState.FAIL]
    assert standing_by_key(record.trials()) == {}


def test_a_record_that_cannot_be_written_ends_the_run_with_its_cause(
    record: Record, tiny: TrialConfig, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageInternalError("during the commit") from sqlite3.OperationalError("database or disk is full")

    enqueue(record, "good", "good")
    monkeypatch.setattr(optuna_writer, "tell", full)
    with pytest.raises(StorageInternalError) as fault:
        run(record, searching(record, tiny, 2), cluster)
    said = str(unusable("sqlite:///runs/optuna.db", fault.value))
    assert "sqlite:///runs/optuna.db cannot be used: database or disk is full" in said
    assert "what was finished is kept" in said.lower()


def bounded(
    record: Record, tiny: TrialConfig, trials: int, ranks: tuple[int, ...], limit: int | None = None
) -> Searcher:
    """A search over ranks, of which those above 2 are infeasible."""

    def space(trial: optuna.Trial) -> TrialConfig:
        rank = trial.suggest_categorical("rank", ranks)
        return replace(tiny, adapters=(replace(tiny.adapters[0], rank=rank),))

    bound = TrainableShare(below=share(tiny.parts, tiny.backbone) * 1.5)  # rank 2 meets it, rank 4 does not
    source = Sampled(record, trials, limit)
    return searcher(source, lambda trial: (space(trial), Replicate()), constraints=(bound,))


def test_infeasible_settings_are_told_untrained_and_do_not_count(record: Record, tiny: TrialConfig) -> None:
    for rank in (4, 4, 2):
        record.study.enqueue_trial({"rank": rank})
    ask = bounded(record, tiny, 1, (2, 4))
    order = ask.suggest("a")
    assert isinstance(order, dict)
    assert order["key"] == record.trial(2).key
    assert ask.source.infeasible == 2
    assert ask.wanted == 1
    told = record.trial(0)
    assert (told.outcome, told.state, told.values) == ("infeasible", TrialState.COMPLETE, (0.0,))
    assert "must be below" in told.why
    assert told.constraints["trainable_share"] > 0
    assert record.trial(2).constraints["trainable_share"] < 0
    again = bounded(record, tiny, 1, (2, 4))
    assert (again.source.infeasible, again.source.ended) == (2, 0)


def test_a_proposal_whose_refusal_was_interrupted_is_refused_and_not_trained(record: Record, tiny: TrialConfig) -> None:
    ask = bounded(record, tiny, 1, (2, 4))
    for rank in (4, 2):
        record.study.enqueue_trial({"rank": rank})
    trial = record.study.ask()
    optuna_writer.begin(
        trial, "k", to_json(ask.propose(trial)[0]), to_json(Replicate()), oracle_prompt=False
    )  # driver dies
    order = bounded(record, tiny, 1, (2, 4)).suggest("a")
    assert isinstance(order, dict)
    assert record.trial(0).outcome == "infeasible"
    assert order["key"] == record.trial(1).key


def test_endless_infeasible_proposals_come_to_an_end(
    record: Record, tiny: TrialConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.execution.searcher.INFEASIBLE_IN_A_ROW", 5)
    ask = bounded(record, tiny, 3, (4, 8, 16))
    assert ask.suggest("a") == Searcher.FINISHED
    assert ask.suggest("b") == Searcher.FINISHED
    assert len(record.trials()) == 5
    assert ask.failure is not None
    assert "5 proposals one after the other do not" in str(ask.failure)
    assert "Loosen the constraint" in str(ask.failure)


def test_a_grid_of_infeasible_cells_is_exhausted(record: Record, tiny: TrialConfig) -> None:
    for rank in (4, 8):
        record.study.enqueue_trial({"rank": rank})
    ask = bounded(record, tiny, 2, (4, 8), limit=2)
    assert ask.suggest("a") == Searcher.FINISHED
    assert ask.failure is None
    assert ask.wanted == 0
