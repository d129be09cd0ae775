"""The studies of an ablation with ``--tuned``: a search of every arm, and the replicates of the tuned arms."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

TUNED = "/tuned"
"""What the name of the study of the tuned arms ends with."""


def study_of(study: str, arm: str) -> str:
    """The study that holds the search of an arm of ``study``."""
    return f"{study}/tune/{arm}"


def tuned_study(study: str) -> str:
    """The study that holds the replicates of the tuned arms of ``study``."""
    return f"{study}{TUNED}"


def within_budget(trials: Sequence[FrozenTrial], budget: int) -> list[FrozenTrial]:
    """The first ``budget`` trials that have an ending which stands; of a search that grew since, those that chose."""
    stand = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    return sorted(stand, key=lambda trial: trial.number)[:budget]


def best(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The completed trial with the highest validation score on the sources, the earliest of equals; None without one.

    That score is the trial's value: nothing of a target enters it.
    """
    scored = [trial for trial in trials if completed(trial)]
    return max(scored, key=lambda trial: (trial.values[0], -trial.number), default=None)


def completed(trial: FrozenTrial) -> bool:
    """Whether a trial has all its scores."""
    return str(trial.user_attrs.get("outcome", {}).get("kind")) == "completed"
