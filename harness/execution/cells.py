"""The trials of an ablation: a cell is an arm in a replicate, and the queue is the cells that have no outcome."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna

from harness.execution.searcher import Propose
from harness.experiments.ablation import Ablation
from harness.record.study import Record
from harness.record.trials import RecordedTrial
from sam2lora.config import Replicate, TrialConfig

_SEEDS = 2**31 - 1


@dataclass(frozen=True, order=True)
class Cell:
    """An arm in a replicate: one trial."""

    arm: str
    seed: int
    fold: int

    def __str__(self) -> str:
        return f"{self.arm}, seed {self.seed}, fold {self.fold}"


def cells(ablation: Ablation) -> list[Cell]:
    """Every arm in the first replicate, then every arm in the second, and so on: what stops early is balanced."""
    replicates = ablation.replicates.all()
    return [Cell(arm, one.seed, one.fold) for one in replicates for arm in ablation.settings]


def proposing(settings: Mapping[str, TrialConfig]) -> Propose:
    """Looks up settings and replicate of a trial by its parameters arm, seed and fold."""

    def propose(trial: optuna.Trial) -> tuple[TrialConfig, Replicate]:
        arm = str(trial.suggest_categorical("arm", tuple(settings)))
        seed = trial.suggest_int("seed", 0, _SEEDS)
        fold = trial.suggest_int("fold", 0, 4)
        return settings[arm], Replicate(seed=seed, fold=fold)  # type: ignore[arg-type]

    return propose


def parameters(wanted: Iterable[Cell]) -> list[dict[str, Any]]:
    """The cells as the parameters of their trials."""
    return [asdict(cell) for cell in wanted]


def missing(record: Record, declared: Sequence[Cell]) -> list[Cell]:
    """The cells without an outcome that stands and without a trial that an earlier run left open, in their order."""
    there = {_cell(trial) for trial in record.trials() if trial.stands or trial.resumable}
    return [cell for cell in declared if cell not in there]


def crashed(record: Record, declared: Sequence[Cell]) -> list[Cell]:
    """The cells that have only crashed so far."""
    failed = {_cell(trial) for trial in record.trials() if trial.outcome == "crashed"}
    return [cell for cell in missing(record, declared) if cell in failed]


def _cell(trial: RecordedTrial) -> Cell:
    return Cell(**trial.params)
