"""``python -m benchmarks.overhead``: what a trial costs beyond its training steps and evaluations.

Two sides in one run on one machine, each with two trials at once (or as many as there are cores):

- *harness*: the whole path (record, scheduler, MLflow, files) around trials that train one epoch at 64 pixels;
- *glue*: what people write today: a function trainable that imports torch and sam2 and reports once, with Ray's
  ``OptunaSearch`` and ``MLflowLoggerCallback``. Its trials do no training at all, which flatters it.

Overhead per trial is (wall time x trials at once - seconds of training and evaluation) / trials. Start-up (Ray, the
first imports of the workers) is in *all*; *further* is the slope from the run before it, which was shorter: what one
more trial adds. What one more metric of a trial adds is the slope of MLflow's own time for it, which is the harness's
only cost that grows with metrics and which it pays in a thread beside the trials.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from mlflow import MlflowClient
from mlflow.entities import Metric
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine, save
from harness.execution import ray_cluster, ray_tune
from harness.execution.searcher import Searcher
from harness.execution.slots import share_machine
from harness.execution.sources import Sampled
from harness.experiments.overrides import Overrides
from harness.experiments.question import search_question
from harness.experiments.search import Search
from harness.record.locations import default_storage
from harness.record.storage import write_ahead
from harness.record.study import open_record
from harness.record.trials import standing_by_key
from harness.samplers import Random
from harness.schedulers import Full
from harness.tracking.mlflow_tracker import MlflowTracker
from harness.tracking.mlflow_tracking import local_tracking
from sam2lora.adapters import LoRA
from sam2lora.augments import NoAugment
from sam2lora.backbones import Nano
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime
from sam2lora.training.session import open_sets


@dataclass(frozen=True)
class Measured:
    """One run: wall seconds, ``worked`` seconds inside training and evaluation, peak MiB of a worker.

    ``metrics``: numbers that MLflow holds of a trial.
    """

    trials: int
    wall: float
    worked: float
    peak_mib: float
    metrics: float


PROTOCOL = Transfer(
    sources=(Synthetic(hospital="alder", images=14, size=64),),
    targets=(Synthetic(hospital="cedar", images=4, size=64),),
)


def space(trial: optuna.Trial) -> TrialConfig:
    """Trials that are as short as a trial can be."""
    rank = trial.suggest_int("rank", 1, 8)
    adapter = LoRA(rank=rank, alpha=trial.suggest_float("alpha", 1.0, 16.0))
    weights = Nano(weights="random")
    return TrialConfig(
        protocol=PROTOCOL, backbone=weights, adapters=(adapter,), augment=NoAugment(), image_size=64, epochs=1
    )


def harness(trials: int, folder: Path) -> Measured:
    """The whole path of a search, from an empty folder."""
    room = share_machine(0.0)
    runtime = Runtime(cache=folder / "cache")
    open_sets((*PROTOCOL.sources, *PROTOCOL.targets), 64, runtime)
    search = Search(space, trials, sampler=Random(), scheduler=Full())
    begun = time.perf_counter()
    question = search_question("overhead", search, Overrides(), {})
    record = open_record(default_storage(folder), "overhead", folder, question, Random().build(0, {}))
    tracker = MlflowTracker(local_tracking(folder), record, question, ())
    known = standing_by_key(record.trials())
    searcher = Searcher(
        Sampled(record, trials), lambda trial: (space(trial), Replicate()), known, {}, runtime, listeners=[tracker]
    )
    with ray_cluster.cluster(room) as cluster:
        tracker.wait()
        ray_tune.run(searcher, Full().build(1), cluster, retries=0)
    tracker.close(None)
    wall = time.perf_counter() - begun
    costs = [trial.cost for trial in record.trials() if trial.cost]
    worked = sum(cost["train_seconds"] + cost["evaluate_seconds"] for cost in costs)
    metrics = _metrics(folder / "mlflow.db") / trials
    return Measured(len(record.trials()), wall, worked, max(cost["peak_mib"] for cost in costs), metrics)


def _metrics(database: Path) -> int:
    with closing(sqlite3.connect(database)) as mlflow:
        return int(mlflow.execute("SELECT count(*) FROM metrics").fetchone()[0])


def glue(trials: int, folder: Path) -> Measured:
    """Ray Tune, OptunaSearch and MLflowLoggerCallback around a function that does nothing but import."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    def train(config: dict[str, Any]) -> None:
        import resource

        import sam2.modeling.sam2_base  # noqa: F401
        import torch  # noqa: F401

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        tune.report({"score": config["alpha"], "peak_mib": peak})

    room = share_machine(0.0)
    begun = time.perf_counter()
    with ray_cluster.cluster(room):
        tracking = MLflowLoggerCallback(tracking_uri=local_tracking(folder), experiment_name="glue")
        tuner = tune.Tuner(
            tune.with_resources(train, {"cpu": 1}),
            param_space={"rank": tune.randint(1, 9), "alpha": tune.uniform(1.0, 16.0)},
            tune_config=tune.TuneConfig(
                metric="score", mode="max", num_samples=trials, search_alg=OptunaSearch(seed=0),
                max_concurrent_trials=room.concurrent,
            ),
            run_config=tune.RunConfig(storage_path=str(folder / "ray"), verbose=0, callbacks=[tracking]),
        )  # fmt: skip
        results = tuner.fit()
        peak = max(result.metrics["peak_mib"] for result in results if result.metrics)
        assert ray.is_initialized()
    wall = time.perf_counter() - begun
    return Measured(trials, wall, 0.0, peak, _metrics(folder / "mlflow.db") / trials)


def a_metric(uri: str, runs: int = 50) -> float:
    """Seconds that one more metric of a run takes MLflow, of 50 to 150 metrics."""
    write_ahead(uri)
    client = MlflowClient(uri)
    experiment = client.create_experiment("metrics")
    seconds = dict.fromkeys((50, 150), 0.0)
    for _ in range(runs):
        for count in seconds:
            run = client.create_run(experiment).info.run_id
            metrics = [Metric(f"metric/{number}", float(number), 0, 0) for number in range(count)]
            begun = time.perf_counter()
            client.log_batch(run, metrics=metrics)
            seconds[count] += time.perf_counter() - begun
    return (seconds[150] - seconds[50]) / (runs * 100)


def per_trial(run: Measured, concurrent: int) -> float:
    """Overhead of a trial in seconds, start-up shared among all."""
    return (run.wall * concurrent - run.worked) / run.trials


def further(short: Measured, long: Measured, concurrent: int) -> float:
    """Overhead that one more trial adds, in seconds."""
    more = replace(
        long, trials=long.trials - short.trials, wall=long.wall - short.wall, worked=long.worked - short.worked
    )
    return per_trial(more, concurrent)


def main() -> None:
    """Measure, print and write."""
    first = (__doc__ or "").partition("\n")[0]
    command = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=first)
    command.add_argument(
        "--trials", type=int, nargs="+", default=(10, 100, 1000), metavar="N", help="runs of the harness"
    )
    command.add_argument(
        "--glue-trials", type=int, nargs="+", default=(2, 6), metavar="N", help="the same for the glue"
    )
    command.add_argument("--out", type=Path, default=Path("benchmarks/results/overhead.json"), metavar="FILE")
    arguments = command.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    concurrent = share_machine(0.0).concurrent
    described = machine()
    table = Table("side", "trials", "metrics of a trial", "wall s", "worked s", "overhead s a trial, all", "further",
                  "peak MiB of a worker")  # fmt: skip
    written = []
    for side, run, counts in (("harness", harness, arguments.trials), ("glue", glue, arguments.glue_trials)):
        before: Measured | None = None
        for count in sorted(counts):
            with tempfile.TemporaryDirectory() as folder:
                measured = run(count, Path(folder))
            added = further(before, measured, concurrent) if before else None
            table.add_row(*_cells(side, measured, concurrent, added))
            written.append(
                {"side": side, **vars(measured), "overhead": per_trial(measured, concurrent), "further": added}
            )
            before = measured
    with tempfile.TemporaryDirectory() as folder:
        each = a_metric(f"sqlite:///{folder}/mlflow.db")
    Console().print(table)
    Console().print(f"{1000 * each:.2f} ms for every further metric of a trial, in MLflow's thread")
    save({"machine": described, "at_once": concurrent, "runs": written, "seconds_a_metric": each}, arguments.out)


def _cells(side: str, measured: Measured, concurrent: int, added: float | None) -> list[str]:
    return [
        side, str(measured.trials), f"{measured.metrics:.0f}", f"{measured.wall:.1f}", f"{measured.worked:.1f}",
        f"{per_trial(measured, concurrent):.2f}", "" if added is None else f"{added:.2f}", f"{measured.peak_mib:.0f}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
