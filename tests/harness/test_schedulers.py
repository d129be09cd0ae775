from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler

from harness.execution.past_trials import rebuild
from harness.record.outcome import KIND_OF
from harness.record.trials import RecordedTrial
from harness.schedulers import ASHA, Full, HyperBand, Median, Scheduler
from sam2lora.choice import kinds

EPOCHS = 9
CHOICES = [ASHA(grace=1), HyperBand(), Median(grace=1), Full()]


@dataclass(eq=False)
class Trial:
    trial_id: str
    config: dict[str, str]


def curve(number: int) -> list[float]:
    return (np.random.default_rng(number).uniform(0, 1) * np.linspace(0.5, 1, EPOCHS)).tolist()


def run(scheduler: Any, number: int) -> list[float]:
    """The part of a trial's curve that the scheduler lets it run."""
    trial = Trial(f"trial-{number}", {"key": f"key-{number}"})
    scheduler.on_trial_add(None, trial)
    seen: list[float] = []
    for epoch, score in enumerate(curve(number), start=1):
        result = {"epoch": epoch, "score": score}
        seen.append(score)
        if epoch == EPOCHS:
            scheduler.on_trial_complete(None, trial, result)
            return seen
        action = scheduler.on_trial_result(None, trial, result)
        assert action != TrialScheduler.PAUSE
        if action == TrialScheduler.STOP:
            scheduler.on_trial_complete(None, trial, result)
            return seen
    return seen


def recorded(number: int, seen: list[float]) -> RecordedTrial:
    outcome = "completed" if len(seen) == EPOCHS else "stopped"
    return RecordedTrial(
        number=number,
        state=TrialState[KIND_OF[outcome].state],
        values=(seen[-1],),
        scores_by_epoch=dict(enumerate(seen, start=1)),
        key=f"key-{number}",
        outcome=outcome,
        epoch=len(seen),
    )


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.kind)
def test_a_rebuilt_scheduler_decides_like_one_that_was_never_interrupted(choice: Scheduler) -> None:
    whole = choice.build(EPOCHS)
    before = [run(whole, number) for number in range(20)]
    after = [run(whole, number) for number in range(20, 40)]
    resumed = choice.build(EPOCHS)
    rebuild(resumed, [recorded(number, seen) for number, seen in enumerate(before)])
    assert [run(resumed, number) for number in range(20, 40)] == after


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.kind)
def test_what_a_scheduler_stops(choice: Scheduler) -> None:
    scheduler = choice.build(EPOCHS)
    stopped = [len(run(scheduler, number)) < EPOCHS for number in range(40)]
    assert any(stopped) == (choice.kind != "none")
    assert not all(stopped)
    best = max(range(40), key=lambda number: curve(number)[-1])
    assert not stopped[best]


def test_a_forgetful_scheduler_would_decide_otherwise() -> None:
    """The rebuild matters: without it a bad trial is the first on its rung, and goes on."""
    fresh, resumed = ASHA(grace=1).build(EPOCHS), ASHA(grace=1).build(EPOCHS)
    rebuild(resumed, [recorded(number, [0.9] * EPOCHS) for number in range(10)])
    assert len(run(fresh, 1)) == EPOCHS
    assert len(run(resumed, 1)) == 1


def test_grace_beyond_the_last_epoch_stops_nobody() -> None:
    scheduler = ASHA(grace=50).build(2)
    assert scheduler._max_t == 2


def test_every_scheduler_is_tested_here() -> None:
    assert set(kinds(Scheduler)) == {choice.kind for choice in CHOICES}
