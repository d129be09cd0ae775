from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
import pytest
from optuna.trial import TrialState

from benchmarks.efficiency import Run, at, seen, table
from harness.record.outcome import KIND_OF
from harness.record.trials import RecordedTrial

BEGUN = datetime(2026, 1, 1)


def trial(minute: int, kind: str, value: float, seconds: float, unseen: float = 0.5) -> RecordedTrial:
    return RecordedTrial(
        number=minute,
        state=TrialState[KIND_OF[kind].state],
        values=(value,),
        finished=BEGUN + timedelta(minutes=minute),
        outcome=kind,
        cost={"train_seconds": seconds, "evaluate_seconds": 1.0},
        roles={"elm": "source", "fir": "target", "oak": "target"},
        scores={"elm/dice": 0.9, "fir/dice": unseen, "oak/dice": unseen + 0.1},
    )


def test_the_best_so_far_is_that_of_completed_trials_in_the_order_of_their_ends() -> None:
    trials = [
        trial(3, "completed", 0.7, 4.0, unseen=0.2),
        trial(1, "completed", 0.6, 9.0),
        trial(2, "stopped", 0.9, 2.0),
        trial(4, "completed", 0.65, 1.0),
    ]
    run = seen("tpe", 0, trials)
    assert run.cost == [10.0, 13.0, 18.0, 20.0]
    assert run.best == [0.6, 0.6, 0.7, 0.7]
    assert (run.completed, run.unseen) == (3, pytest.approx(0.25)), "of the best by validation, whatever it shows"
    assert np.isnan(at(run, 9.9))
    assert (at(run, 10.0), at(run, 17.9), at(run, 99.0)) == (0.6, 0.6, 0.7)


def test_a_run_without_a_completed_trial_has_no_best() -> None:
    run = seen("tpe", 0, [trial(1, "stopped", 0.9, 2.0)])
    assert run.completed == 0
    assert np.isnan(run.best[-1])
    assert np.isnan(run.unseen)
    other = Run("random", 0, 1, [3.0], [0.5], 0.4)
    cells = [str(cell) for column in table([run, other]).columns for cell in column.cells]
    assert "none yet" in cells
    assert "0.500 [0.500, 0.500]" in cells
