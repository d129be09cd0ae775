"""What the arms' own searches found, of an ablation that was run with ``--tuned``. Loads neither torch nor Ray."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from harness.record.ablation_scores import Declared
from harness.record.arm_studies import TUNED, best, completed, study_of, within_budget
from harness.record.study import open_storage
from harness.record.table import StudyTable
from harness.stats.refusal import Refused
from harness.stats.tuning_curves import Tuning, tuning_curves

EDGE = 0.1
"""Share of a range, at either end and on its scale, that is its edge."""


@dataclass(frozen=True)
class Setting:
    """A number that was tuned: its chosen ``value``, and the range that it was drawn from, on a logarithmic scale."""

    name: str
    value: float
    low: float
    high: float

    @property
    def edge(self) -> str | None:
        """``lower`` or ``upper`` where the value lies in the outer tenth of the range, None inside."""
        place = math.log(self.value / self.low) / math.log(self.high / self.low)
        return "lower" if place < EDGE else "upper" if place > 1 - EDGE else None


@dataclass(frozen=True)
class Searched:
    """An arm's search. ``scores``: validation of each trial of the budget, NaN where it has none; ``number``, ``score``
    and ``settings``: of the best trial, which the replicates ran with.
    """

    arm: str
    study: str
    scores: tuple[float, ...]
    number: int
    score: float
    settings: tuple[Setting, ...]

    @property
    def completed(self) -> int:
        """How many trials have a score."""
        return int(np.isfinite(self.scores).sum())


@dataclass(frozen=True)
class Tuned:
    """The arms' searches, and the curves that they trace. ``untuned``: arms without a search in the record."""

    searched: tuple[Searched, ...]
    untuned: tuple[str, ...]
    curves: Tuning


def tuned(table: StudyTable, ablation: Declared, rng: np.random.Generator) -> Tuned | Refused | None:
    """What tuning found; None where the arms ran with fixed settings, refused where the searches are not in the record.

    Curves are drawn from ``rng``.
    """
    if not ablation.tuned:
        return None
    storage = open_storage(table.storage)
    studies = {study.study_name for study in storage.get_all_studies()}
    found, untuned = [], []
    for arm in ablation.arms:
        name = study_of(table.name.removesuffix(TUNED), arm)
        own = _searched(storage, name, arm, ablation.tuned) if name in studies else None
        found += [own] if own is not None else []
        untuned += [arm] if own is None else []
    if not found:
        return Refused(
            "Tuning curves need the arms' searches",
            f"the record has no study {study_of(table.name.removesuffix(TUNED), 'ARM')}",
            "report from the record that the ablation was run with",
        )
    scores = pd.DataFrame([{"arm": one.arm, "score": score} for one in found for score in one.scores])
    return Tuned(tuple(found), tuple(untuned), tuning_curves(scores, rng))


def _searched(storage: RDBStorage, name: str, arm: str, budget: int) -> Searched | None:
    trials = within_budget(optuna.load_study(storage=storage, study_name=name).trials, budget)
    chosen = best(trials)
    if chosen is None:
        return None
    scores = tuple(float(trial.values[0]) if completed(trial) else math.nan for trial in trials)
    settings = tuple(_setting(name, value, chosen) for name, value in chosen.params.items())
    return Searched(arm, name, scores, chosen.number, float(chosen.values[0]), settings)


def _setting(name: str, value: Any, trial: FrozenTrial) -> Setting:
    drawn = trial.distributions[name]
    assert isinstance(drawn, FloatDistribution)
    return Setting(name, float(value), drawn.low, drawn.high)
