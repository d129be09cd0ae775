"""The trials of an ablation: a cell is an arm in a replicate, and the queue is the cells that have no ending."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState

from harness.execution.searcher import Propose
from harness.experiments.ablation import Ablation
from harness.record.study import Record
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
    return [{"arm": cell.arm, "seed": cell.seed, "fold": cell.fold} for cell in wanted]


def missing(book: Record, declared: Sequence[Cell]) -> list[Cell]:
    """The cells without an ending that stands and without a trial that an earlier run left open, in their order."""
    ended = set(_cells(book, (TrialState.COMPLETE, TrialState.PRUNED)))
    return [cell for cell in declared if cell not in ended and cell not in set(_cells(book, (TrialState.RUNNING,)))]


def crashed(book: Record, declared: Sequence[Cell]) -> list[Cell]:
    """The cells that have only crashed so far."""
    failed = set(_cells(book, (TrialState.FAIL,)))
    return [cell for cell in missing(book, declared) if cell in failed]


def _cells(book: Record, states: Sequence[TrialState]) -> Iterator[Cell]:
    for trial in book.trials():
        if trial.state in states and "replicate" in trial.user_attrs:
            yield Cell(**trial.params)


def left_open(book: Record) -> bool:
    """Whether an earlier run left a trial open that can go on."""
    return next(_cells(book, (TrialState.RUNNING,)), None) is not None
