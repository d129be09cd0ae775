"""The trials of earlier runs, shown to a scheduler: it decides as if there had been no interruption."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.record.trials import RecordedTrial


@dataclass(eq=False)
class _Past:
    """Enough of a Ray trial for a scheduler to remember it."""

    trial_id: str
    config: dict[str, str]


def rebuild(scheduler: Any, trials: Sequence[RecordedTrial]) -> None:
    """Show a fresh scheduler the curves of trials that have ended, so that its rungs are where they were.

    Trials that are still open are left out: they replay their curves when they resume. So are reused and infeasible
    ones, those of a probe and references: no scheduler ever saw them. Where there are several objectives, no scheduler
    stops anyone or remembers.
    """
    for trial in trials:
        unseen = trial.reused_from is not None or trial.outcome == "infeasible" or not trial.sampled
        if not trial.stands or trial.epoch is None or unseen or len(trial.values) > 1:
            continue
        kind, epoch = trial.outcome, trial.epoch
        past = _Past(f"past-{trial.number}", {"key": trial.key})
        scheduler.on_trial_add(None, past)
        for reached, score in sorted(trial.scores_by_epoch.items()):
            # How a trial ended by itself is passed on as complete, not as a result.
            if kind == "stopped" or reached < epoch:
                scheduler.on_trial_result(None, past, {"epoch": reached, "score": score})
        last = math.nan if kind == "out_of_memory" else trial.scores_by_epoch[epoch]
        scheduler.on_trial_complete(None, past, {"epoch": epoch, "score": last})
