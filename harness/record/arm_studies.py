"""The studies of an ablation with ``--tuned``: a search of every arm, and the replicates of the tuned arms."""

from __future__ import annotations

from collections.abc import Sequence

from harness.record.trials import RecordedTrial

_TUNED = "/tuned"


def tuning(name: str) -> str:
    """The common name of the searches of all arms, of an ablation or of its study."""
    return f"{name}/tune"


def arm_study(study: str, arm: str) -> str:
    """The study that holds the search of an arm of ``study``."""
    return f"{tuning(study)}/{arm}"


def tuned_study(study: str) -> str:
    """The study that holds the replicates of the tuned arms of ``study``."""
    return f"{study}{_TUNED}"


def fixed_study(study: str) -> str:
    """The study whose arms, once tuned, are replicated in ``study``; a study of untuned arms is that study itself."""
    return study.removesuffix(_TUNED)


def within_budget(trials: Sequence[RecordedTrial], budget: int) -> list[RecordedTrial]:
    """The first ``budget`` trials whose outcome stands: those that chose, if the search has grown since."""
    return sorted((trial for trial in trials if trial.stands), key=lambda trial: trial.number)[:budget]
