"""``python -m benchmarks.efficiency``: what a sampler and a scheduler buy: the best score for a given cost.

The search ``joint`` (ten settings) on the procedural hospitals, made small: 96 pixels, four epochs. Random, TPE and GP,
each with every trial trained to its end and with ASHA, and TPE with ASHA in shared engines; every arm by the whole path
of a search, several times with other seeds of the sampler.

Cost is seconds of training and evaluation, summed over trials in the order of their ends; start-up is not in it. The
score is the best validation Dice so far among completed trials, at three budgets that are the same for all arms: a
third, two thirds and all of what the cheapest run took. *Unseen* is the mean Dice on the targets of the trial that is
best by validation. Every cell is a mean over the seeds, with its range: few seeds show no small differences.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.machine import machine, save
from harness.execution import ray_cluster, ray_tune
from harness.execution.ray_cluster import Cluster
from harness.execution.searcher import Searcher
from harness.execution.slots import RESIDENTS, Slots, share_machine
from harness.execution.sources import Sampled
from harness.experiments import declarations, space
from harness.experiments.overrides import Overrides
from harness.experiments.question import search_question
from harness.record.locations import default_storage
from harness.record.study import open_record
from harness.record.trials import RecordedTrial, standing_by_key
from harness.samplers import GP, TPE, Random, Sampler
from harness.schedulers import ASHA, Full, Scheduler
from sam2lora.config import Replicate, TrialConfig
from sam2lora.runtime import Runtime
from sam2lora.training.session import open_sets

EPOCHS = 4
SMALL = Overrides(image_size=96, epochs=EPOCHS)


@dataclass(frozen=True)
class Arm:
    """A way to search. ``residents``: trials that share an engine (1: none do)."""

    name: str
    sampler: Sampler
    scheduler: Scheduler
    residents: int = 1


ARMS = (
    Arm("random", Random(), Full()),
    Arm("tpe", TPE(), Full()),
    Arm("gp", GP(), Full()),
    Arm("random, asha", Random(), ASHA(grace=1)),
    Arm("tpe, asha", TPE(), ASHA(grace=1)),
    Arm("gp, asha", GP(), ASHA(grace=1)),
    Arm("tpe, asha, packed", TPE(), ASHA(grace=1), residents=RESIDENTS),
)


@dataclass(frozen=True)
class Run:
    """One run of an arm: after each ended trial the cost so far and the best score so far; what its best shows unseen.

    ``completed``: trials that were trained to their end.
    """

    arm: str
    seed: int
    completed: int
    cost: list[float]
    best: list[float]
    unseen: float


def run(arm: Arm, seed: int, trials: int, runtime: Runtime, folder: Path, cluster: Cluster) -> Run:
    """A search by ``arm`` in an empty folder, on a cluster that is up."""
    search = declarations.search("joint")
    question = search_question("joint", search, SMALL, {})
    sampler = arm.sampler.build(seed, space.distributions(search.space), 0)
    record = open_record(default_storage(folder), arm.name, folder, question, sampler)

    def propose(trial: optuna.Trial) -> tuple[TrialConfig, Replicate]:
        return SMALL.apply(search.space(trial)), Replicate()

    searcher = Searcher(Sampled(record, trials), propose, standing_by_key(record.trials()), {}, runtime)
    ray_tune.run(searcher, arm.scheduler.build(EPOCHS), cluster, retries=0)
    return seen(arm.name, seed, record.trials())


def seen(arm: str, seed: int, trials: Sequence[RecordedTrial]) -> Run:
    """The course of a search by its ended trials. Without a completed one there is no best: NaN."""
    ended = [trial for _, _, trial in sorted((t.finished, t.number, t) for t in trials if t.finished)]
    cost = np.cumsum([_seconds(trial) for trial in ended])
    scores = np.array([trial.values[0] if trial.completed else np.nan for trial in ended], dtype=float)
    unseen = _on_targets(ended[int(np.nanargmax(scores))]) if np.isfinite(scores).any() else np.nan
    completed = int(np.isfinite(scores).sum())
    return Run(arm, seed, completed, cost.tolist(), np.fmax.accumulate(scores).tolist(), unseen)


def _on_targets(trial: RecordedTrial) -> float:
    names = [name for name, role in trial.roles.items() if role == "target"]
    return float(np.mean([trial.scores[f"{name}/dice"] for name in names]))


def _seconds(trial: RecordedTrial) -> float:
    return trial.cost["train_seconds"] + trial.cost["evaluate_seconds"] if trial.cost else 0.0


def at(run: Run, budget: float) -> float:
    """The best score that a run had for ``budget`` seconds; NaN before its first completed trial."""
    within = [best for cost, best in zip(run.cost, run.best, strict=True) if cost <= budget]
    return within[-1] if within else np.nan


def table(runs: Sequence[Run]) -> Table:
    """A row for each arm."""
    least = min(run.cost[-1] for run in runs)
    budgets = [least / 3, 2 * least / 3, least]
    shown = Table(
        "arm", "runs", "completed", "seconds", *(f"best in {b:.0f} s" for b in budgets), "at its end", "unseen"
    )
    for arm in dict.fromkeys(run.arm for run in runs):
        own = [run for run in runs if run.arm == arm]
        columns = [[at(run, budget) for run in own] for budget in budgets]
        columns += [[run.best[-1] for run in own], [run.unseen for run in own]]
        means = [np.mean([run.completed for run in own]), np.mean([run.cost[-1] for run in own])]
        shown.add_row(arm, str(len(own)), *(f"{mean:.0f}" for mean in means), *(_told(values) for values in columns))
    return shown


def _told(values: Sequence[float]) -> str:
    known = [value for value in values if np.isfinite(value)]
    if not known:
        return "none yet"
    short = "" if len(known) == len(values) else f" ({len(known)} of {len(values)})"
    return f"{np.mean(known):.3f} [{min(known):.3f}, {max(known):.3f}]{short}"


def main() -> None:
    """Measure, print and write."""
    first = (__doc__ or "").partition("\n")[0]
    command = argparse.ArgumentParser(prog="python -m benchmarks.efficiency", description=first)
    command.add_argument("--trials", type=int, default=24, metavar="N", help="trials of each run (default 24)")
    command.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each arm (default 3)")
    command.add_argument("--out", type=Path, default=Path("benchmarks/results/efficiency.json"), metavar="FILE")
    arguments = command.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    described, runs = machine(), list[Run]()
    with tempfile.TemporaryDirectory() as scratch:
        runtime = Runtime(cache=Path(scratch, "cache"))
        protocol = SMALL.apply(space.draws(declarations.search("joint").space)[0][0]).protocol
        open_sets((*protocol.sources, *protocol.targets), 96, runtime)
        for residents in sorted({arm.residents for arm in ARMS}):
            cores = share_machine(0.0).concurrent
            room = Slots(cores * residents, cpus=1.0, gpus=0.0, residents=residents)
            with ray_cluster.cluster(room) as cluster:
                plan = [(arm, seed) for arm in ARMS for seed in range(arguments.seeds) if arm.residents == residents]
                for arm, seed in track(plan, f"{residents} to a process", console=Console(stderr=True)):
                    folder = Path(scratch, f"{arm.name}-{seed}")
                    folder.mkdir()
                    runs.append(run(arm, seed, arguments.trials, runtime, folder, cluster))
    Console().print(table(runs))
    result: dict[str, Any] = {"machine": described, "trials": arguments.trials, "runs": [vars(run) for run in runs]}
    save(result, arguments.out)


if __name__ == "__main__":
    main()
