"""``python -m benchmarks.scale``: what a trial costs after thousands of others, and how large the stores become.

The whole path with trials that do no training: the searcher asks the sampler, each trial has as many epochs as ASHA
lets it, a result and its files; record, live table and MLflow follow. Ray's part is left out unless ``--ray``. The
trials in between are copies of the first ones, in both stores, unless ``--whole``. All times are those of a processor;
the last run finds nothing to do.
"""

from __future__ import annotations

import argparse
import math
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import psutil
from ray import tune
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine, save
from harness.execution import ray_cluster, ray_tune
from harness.execution.callback import RecordTrials
from harness.execution.messages import TrialOrder
from harness.execution.past_trials import rebuild
from harness.execution.probe import unaware
from harness.execution.progress import LiveTable
from harness.execution.searcher import Searcher
from harness.execution.slots import Slots
from harness.execution.sources import Sampled
from harness.execution.trainable import result_of
from harness.experiments import declarations
from harness.experiments.overrides import Overrides
from harness.experiments.question import search_question
from harness.record.locations import default_storage
from harness.record.storage import open_storage
from harness.record.study import open_record, trial_count
from harness.record.trials import RecordedTrial, standing_by_key
from harness.samplers import Sampler
from harness.tracking.mlflow_tracker import MlflowTracker
from harness.tracking.mlflow_tracking import local_tracking
from sam2lora.choice import from_json, kinds
from sam2lora.config import Replicate, TrialConfig
from sam2lora.files import ADAPTER, IMAGES, PREDICTIONS, RESULT
from sam2lora.integrity import digests_of, seal
from sam2lora.runtime import Runtime

EPOCHS = 6
TARGETS = ("cedar", "willow", "rowan")
METRICS = ("dice", "iou", "auc", "sensitivity", "specificity", "accuracy", "precision", "mcc", "hd95", "assd")
_FILE_BYTES = 2048


class Untrained(tune.Trainable):
    """A trial whose scores follow from its settings at once."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take the first order."""
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next order."""
        self.order: TrialOrder = new_config["order"]
        config = from_json(TrialConfig, self.order.config)
        self.reach = 0.7 - 0.05 * abs(math.log10(config.optimizer.lr / 2e-3))
        self.reach -= 0.1 * (config.loss.terms[0].weight - 0.4) ** 2
        self.epoch = 0
        return True

    def step(self) -> dict[str, Any]:
        """An epoch; with the last one the result and the files."""
        self.epoch += 1
        score = self.reach * (1 - math.exp(-self.epoch))
        losses = {f"loss/{name}": 1.0 / self.epoch for name in ("total", "bce", "soft_dice", "focal_tversky")}
        entry = {"epoch": self.epoch, "score": score, "alder/dice": score, "lr": 1e-3, **losses}
        if self.epoch == EPOCHS:
            self._write_result(score)
        outcome = "completed" if self.epoch == EPOCHS else None
        cost = {"train_seconds": 0.0, "evaluate_seconds": 0.0, "peak_mib": 0.0}
        return result_of(
            {"epoch": self.epoch, "score": score, "entry": entry, "cost": cost, "outcome": outcome, "why": ""}
        )

    def _write_result(self, score: float) -> None:
        folder = Path(self.order.folder)
        folder.mkdir(parents=True, exist_ok=True)
        names = (IMAGES, ADAPTER, PREDICTIONS)
        for name in names:
            (folder / name).write_bytes(os.urandom(_FILE_BYTES))
        result = {
            "scores": {f"{target}/{metric}": score for target in TARGETS for metric in METRICS},
            "n_images": dict.fromkeys(TARGETS, 20),
            "roles": dict.fromkeys(TARGETS, "target"),
            "validation": {"alder/dice": score},
            "undefined": {},
            "threshold": 0.5,
            "files": digests_of(folder, names),
        }
        (folder / RESULT).write_text(seal(result))


class Clock:
    """A listener that notes processor seconds of its thread when trials end, and how large the process is by then."""

    def __init__(self) -> None:
        self.moments = [time.thread_time()]
        self.peak_mib = 0.0

    def began(self, trial: RecordedTrial) -> None:
        """Nothing."""

    def advanced(self, trial: RecordedTrial, entry: Mapping[str, float]) -> None:
        """Nothing."""

    def warned(self, trial: RecordedTrial, text: str) -> None:
        """Nothing."""

    def ended(self, trial: RecordedTrial) -> None:
        """Note it."""
        self.moments.append(time.thread_time())
        self.peak_mib = max(self.peak_mib, psutil.Process().memory_info().rss / 2**20)

    @property
    def mean_ms(self) -> float:
        """Milliseconds of a trial."""
        return 1000 * (self.moments[-1] - self.moments[0]) / max(len(self.moments) - 1, 1)


class Timed(MlflowTracker):
    """MLflow's tracker with the processor seconds that its thread takes for trials."""

    def __init__(self, *arguments: Any) -> None:
        self.seconds, self.trials = 0.0, 0
        super().__init__(*arguments)

    def _write(self, write: Callable[..., Any], *arguments: Any) -> None:
        begun = time.thread_time()
        super()._write(write, *arguments)
        if write != self._sync and write != self._close:
            self.seconds += time.thread_time() - begun
            self.trials += write == self._finish

    @property
    def mean_ms(self) -> float:
        """Milliseconds of a trial."""
        return 1000 * self.seconds / max(self.trials, 1)


@dataclass
class _Asked:
    """What a callback and a scheduler know of one of Ray's trials."""

    trial_id: str
    config: dict[str, Any]
    untrained: Untrained
    last_result: dict[str, Any]
    error_file: str | None = None


def without_ray(searcher: Searcher, scheduler: Any, at_once: int) -> None:
    """What `ray_tune.run` does, in this thread."""
    callback, trials, number = RecordTrials(searcher), list[_Asked](), 0
    while True:
        while len(trials) < at_once and isinstance(config := searcher.suggest(f"t{number}"), dict):
            untrained = Untrained.__new__(Untrained)
            untrained.reset_config(config)
            trials.append(_Asked(f"t{number}", config, untrained, {}))
            scheduler.on_trial_add(None, trials[-1])
            number += 1
        if not trials:
            return
        trial = trials.pop(0)
        trial.last_result = result = {**trial.untrained.step(), "config": trial.config}
        callback.on_trial_result(number, [], trial, result)
        if result["done"]:
            scheduler.on_trial_complete(None, trial, result)
        elif scheduler.on_trial_result(None, trial, result) != tune.schedulers.TrialScheduler.STOP:
            trials.append(trial)
            continue
        callback.on_trial_complete(number, [], trial)


@dataclass(frozen=True)
class Measured:
    """One run of a study that has ``trials`` trials in the end, in processor time.

    ``opened``, ``mlflow_opened``: seconds to open the record and MLflow. ``trial_ms``, ``mlflow_ms``: milliseconds of a
    trial in the leading thread and in MLflow's. ``closed``: seconds of MLflow's last look. ``peak_mib``: of memory.
    """

    sampler: str
    trials: int
    new: int
    opened: float
    mlflow_opened: float
    trial_ms: float
    mlflow_ms: float
    closed: float
    peak_mib: float


def run(folder: Path, trials: int, sampler: str, ray: bool) -> Measured:
    """Bring the study in ``folder`` to ``trials`` trials."""
    begun = time.process_time()
    declared = declarations.search("loss_weights")
    search = replace(declared, trials=trials, sampler=kinds(Sampler)[sampler]())
    question = {**search_question("scale", search, Overrides(epochs=EPOCHS), {}), "targets": list(TARGETS)}
    question["sampler"] = {}  # the same study goes on with another
    url = default_storage(folder)
    so_far = trial_count(open_storage(url), "scale")
    built = search.sampler.build(0, {}, so_far)
    record = open_record(url, "scale", folder, question, built)
    clock, past = Clock(), record.trials()
    with (folder / "log").open("a") as log:
        live = LiveTable(Console(file=log), lambda: trials, EPOCHS, past=past)
        source = Sampled(unaware(record), trials)
        opened, begun = time.process_time() - begun, time.process_time()
        tracker = Timed(local_tracking(folder), record, question, ())
        tracker.wait()
        mlflow_opened = time.process_time() - begun
        searcher = Searcher(
            source,
            lambda trial: (replace(search.space(trial), epochs=EPOCHS), Replicate()),
            standing_by_key(past),
            {},
            Runtime(cache=folder / "cache"),
            listeners=[tracker, live, clock],
        )
        scheduler = search.scheduler.build(EPOCHS)
        rebuild(scheduler, past)
        slots = Slots(concurrent=2, cpus=1.0, gpus=0.0)
        if ray and searcher.wanted:
            with ray_cluster.cluster(slots) as cluster:
                clock.moments[0] = time.thread_time()
                ray_tune.run(searcher, scheduler, cluster, 0, trainable=Untrained)
        else:
            clock.moments[0] = time.thread_time()
            without_ray(searcher, scheduler, slots.concurrent)
        begun, written = time.process_time(), tracker.trials
        tracker.close(None)
        closed = time.process_time() - begun - (tracker.trials - written) * tracker.mean_ms / 1000
    return Measured(
        sampler, trials, trials - so_far, opened, mlflow_opened, clock.mean_ms, tracker.mean_ms,
        closed, clock.peak_mib,
    )  # fmt: skip


def multiply(folder: Path, times: int) -> None:
    """Add ``times`` copies of every trial to the record and to MLflow, each with a number and a run of its own."""
    with closing(sqlite3.connect(folder / "optuna.db")) as record, record:
        (count,) = record.execute("SELECT count(*) FROM trials").fetchone()
        for copy in range(1, times + 1):
            shift = copy * count
            for table, key in (
                ("trials", ""), ("trial_params", "param_id"), ("trial_values", "trial_value_id"),
                ("trial_intermediate_values", "trial_intermediate_value_id"),
                ("trial_user_attributes", "trial_user_attribute_id"),
            ):  # fmt: skip
                _copy(record, table, key, {"trial_id": f"trial_id + {shift}", "number": f"number + {shift}"},
                      f"trial_id <= {count}")  # fmt: skip
    with closing(sqlite3.connect(folder / "mlflow.db")) as mlflow, mlflow:
        (parent,) = mlflow.execute(
            "SELECT run_uuid FROM tags WHERE key = 'sam2lora.role' AND value = 'study'"
        ).fetchone()
        mlflow.execute("CREATE TEMP TABLE first AS SELECT run_uuid FROM runs WHERE run_uuid != ?", (parent,))
        for copy in range(1, times + 1):
            run = {"run_uuid": f"printf('%06x', {copy}) || substr(run_uuid, 7)"}
            trial = f"CASE key WHEN 'trial' THEN value + {copy * count} ELSE value END"
            for table in ("runs", "params", "metrics", "latest_metrics", "tags"):
                changed = {**run, "value": trial} if table == "tags" else run
                _copy(mlflow, table, "", changed, "run_uuid IN (SELECT run_uuid FROM temp.first)")
        written = f"0-{count * (times + 1) - 1}"
        mlflow.execute("UPDATE tags SET value = ? WHERE key = 'sam2lora.written'", (written,))


def _copy(database: sqlite3.Connection, table: str, without: str, changed: Mapping[str, str], where: str) -> None:
    names = [row[1] for row in database.execute(f"PRAGMA table_info({table})") if row[1] != without]
    values = ", ".join(changed.get(name, name) for name in names)
    database.execute(f"INSERT INTO {table} ({', '.join(names)}) SELECT {values} FROM {table} WHERE {where}")


def _mib(folder: Path, pattern: str) -> float:
    return sum(path.stat().st_size for path in folder.glob(pattern)) / 2**20


def main() -> None:
    """Measure, print and write."""
    first = (__doc__ or "").partition("\n")[0]
    command = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=first)
    command.add_argument("--trials", type=int, default=10_000, metavar="N", help="of the study in the end")
    command.add_argument("--measured", type=int, default=200, metavar="N", help="trials at the start and at the end")
    command.add_argument("--whole", action="store_true", help="run those between as well, instead of copying the first")
    command.add_argument("--sampler", default="random", choices=list(kinds(Sampler)))
    command.add_argument("--ray", action="store_true", help="with Ray's loop and workers")
    command.add_argument("--out", type=Path, default=Path("benchmarks/results/scale.json"), metavar="FILE")
    given = command.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    described, runs, each = machine(), list[Measured](), given.measured
    table = Table("trials", "new", "record opened s", "MLflow opened s", "ms a trial", "ms a trial in MLflow's thread",
                  "closed s", "peak MiB")  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs.append(run(folder, each, given.sampler, given.ray))
        if given.whole:
            runs.append(run(folder, given.trials - each, given.sampler, given.ray))
        else:
            multiply(folder, given.trials // each - 2)
        runs.append(run(folder, given.trials, given.sampler, given.ray))
        runs.append(run(folder, given.trials, given.sampler, given.ray))
        sizes = {"record": _mib(folder, "optuna.db*"), "MLflow": _mib(folder, "mlflow.db*")}
    for one in runs:
        table.add_row(
            f"{one.trials:,}", str(one.new), f"{one.opened:.2f}", f"{one.mlflow_opened:.2f}", f"{one.trial_ms:.1f}",
            f"{one.mlflow_ms:.1f}", f"{one.closed:.2f}", f"{one.peak_mib:.0f}",
        )  # fmt: skip
    Console().print(table)
    growth = runs[-2].trial_ms / runs[0].trial_ms
    stores = "; ".join(f"{name} {mib:.0f} MiB" for name, mib in sizes.items())
    Console().print(f"a trial at the end takes {growth:.2f} times that at the start; {stores}")
    save({"machine": described, "sizes_mib": sizes, "growth": growth, "runs": [asdict(one) for one in runs]}, given.out)


if __name__ == "__main__":
    main()
