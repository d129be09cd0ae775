"""The searches that tuned the arms of an ablation run with ``--tuned``, read from its record."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage

from harness.record.ablation_scores import RecordedAblation
from harness.record.arm_studies import arm_study, fixed_study, within_budget
from harness.record.storage import open_to_read
from harness.record.study import questions
from harness.record.table import StudyTable
from harness.record.trials import RecordedTrial, best, read_trials
from harness.stats.refusal import Refused
from harness.stats.tuning_curves import Tuning, tuning_curves

EDGE = 0.1
"""Share of a range, at either end and on its scale, that is its edge."""


@dataclass(frozen=True)
class TunedSetting:
    """A tuned number: its chosen ``value`` and the range of its draws, on a logarithmic scale."""

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
class ArmSearch:
    """The search of an arm. ``scores``: the validation score of each trial of the budget, NaN where it has none;
    ``number``, ``score`` and ``settings``: those of the best trial, whose settings the replicates have.
    """

    arm: str
    study: str
    scores: tuple[float, ...]
    number: int
    score: float
    settings: tuple[TunedSetting, ...]

    @property
    def completed(self) -> int:
        """How many trials have a score."""
        return int(np.isfinite(self.scores).sum())


@dataclass(frozen=True)
class ArmSearches:
    """The searches of the arms and their tuning curves. ``untuned``: arms without a search in the record."""

    searches: tuple[ArmSearch, ...]
    untuned: tuple[str, ...]
    curves: Tuning


def arm_searches(
    table: StudyTable, ablation: RecordedAblation, rng: np.random.Generator
) -> ArmSearches | Refused | None:
    """The searches of a tuned study; None with fixed settings, refused where the record does not have the searches.

    Curves are drawn from ``rng``.
    """
    if not ablation.tuned:
        return None
    storage = open_to_read(table.storage)
    studies = questions(storage)
    searches, untuned = [], []
    for arm in ablation.arms:
        name = arm_study(fixed_study(table.name), arm)
        search = _search(storage, name, arm, ablation.tuned) if name in studies else None
        searches += [search] if search is not None else []
        untuned += [arm] if search is None else []
    if not searches:
        return Refused(
            "Tuning curves need the arms' searches",
            f"the record has no study {arm_study(fixed_study(table.name), 'ARM')}",
            "report from the record that the ablation was run with",
        )
    scores = pd.DataFrame([{"arm": one.arm, "score": score} for one in searches for score in one.scores])
    return ArmSearches(tuple(searches), tuple(untuned), tuning_curves(scores, rng))


def _search(storage: RDBStorage, name: str, arm: str, budget: int) -> ArmSearch | None:
    trials = within_budget(read_trials(storage, name), budget)
    chosen = best(trials)
    if chosen is None:
        return None
    scores = tuple(float(trial.values[0]) if trial.completed else math.nan for trial in trials)
    settings = tuple(_setting(name, value, chosen) for name, value in chosen.params.items())
    return ArmSearch(arm, name, scores, chosen.number, float(chosen.values[0]), settings)


def _setting(name: str, value: Any, trial: RecordedTrial) -> TunedSetting:
    drawn = trial.distributions[name]
    assert isinstance(drawn, FloatDistribution)
    return TunedSetting(name, float(value), drawn.low, drawn.high)
