from __future__ import annotations

import json

import optuna
import pytest
from optuna.trial import TrialState

from harness.record import optuna_writer
from harness.record.outcome import Completed, Crashed, Diverged, Outcome, OutOfMemory, Stopped
from harness.record.study import Record
from harness.record.trials import standing_by_key

COMPLETED = Completed(3, 0.7, {"cedar/dice": 0.6}, {"cedar": 4}, {"cedar": "target"}, {"alder/dice": 0.7}, {}, 0.4)


def start(record: Record, key: str = "k") -> optuna.Trial:
    trial = record.study.ask()
    trial.suggest_float("lr", 1e-4, 1e-2)
    optuna_writer.begin(trial, key, "{}", json.dumps({"seed": 0, "fold": 0}), oracle_prompt=False)
    return trial


@pytest.mark.parametrize(
    ("outcome", "state", "value"),
    [
        (COMPLETED, TrialState.COMPLETE, 0.7),
        (Stopped(2, 0.4), TrialState.PRUNED, 0.4),
        (Diverged(2, "the loss is not finite"), TrialState.COMPLETE, 0.0),
        (OutOfMemory(1, "too large"), TrialState.PRUNED, None),
        (Crashed(1, "bug"), TrialState.FAIL, None),
    ],
)
def test_every_outcome_is_told_as_what_it_is(
    record: Record, outcome: Outcome, state: TrialState, value: float | None
) -> None:
    trial = start(record)
    if isinstance(outcome, Stopped):
        optuna_writer.report(trial, 1, 0.3)
        optuna_writer.report(trial, 2, 0.4)
    optuna_writer.tell(record, trial, outcome, [{"epoch": 1, "score": 0.3}], {"train_seconds": 1.0})
    told = record.study.trials[trial.number]
    assert (told.state, told.value) == (state, value)
    assert told.user_attrs["outcome"]["epoch"] == outcome.epoch
    assert told.constraints == ({"memory": 1.0} if isinstance(outcome, OutOfMemory) else {})
    assert ("scores" in told.user_attrs) == isinstance(outcome, Completed)
    assert json.loads(json.dumps(told.user_attrs)) == told.user_attrs


def test_divergence_teaches_the_sampler_and_memory_is_infeasible(record: Record) -> None:
    """TPE must come to avoid the half of the space in which trials diverge, and the half in which they do not fit."""
    for bad in (Diverged(1, "nan"), OutOfMemory(1, "no room")):
        sampler = optuna.samplers.TPESampler(seed=1, multivariate=True)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        ours = Record(study, record.storage_url, record.out)
        for number in range(40):
            trial = study.ask()
            x = trial.suggest_float("x", 0.0, 1.0)
            optuna_writer.begin(trial, str(number), "{}", "{}", oracle_prompt=False)
            good = Completed(1, x, {}, {}, {}, {}, {}, None)
            optuna_writer.tell(ours, trial, bad if x > 0.5 else good, [], {})
        late = [trial.params["x"] for trial in study.trials[15:]]
        assert sum(x > 0.5 for x in late) < len(late) / 2


def test_reuse_repeats_the_ending_without_its_cost(record: Record) -> None:
    first = start(record)
    optuna_writer.report(first, 1, 0.7)
    optuna_writer.tell(record, first, COMPLETED, [{"epoch": 1, "score": 0.7}], {"train_seconds": 9.0})
    second = start(record)
    optuna_writer.reuse(record, second, standing_by_key(record.trials())["k"])
    told = record.study.trials[second.number]
    assert (told.state, told.value, told.user_attrs["reused_from"]) == (TrialState.COMPLETE, 0.7, first.number)
    assert told.user_attrs["scores"] == COMPLETED.scores
    assert told.user_attrs["cost"] == {}
    assert told.intermediate_values == {1: 0.7}


def test_reuse_of_what_did_not_fit_stays_infeasible(record: Record) -> None:
    first = start(record)
    optuna_writer.tell(record, first, OutOfMemory(1, "no room"), [], {})
    second = start(record)
    optuna_writer.reuse(record, second, standing_by_key(record.trials())["k"])
    assert record.trial(second.number).constraints == {"memory": 1.0}


def test_a_crash_is_no_ending(record: Record) -> None:
    optuna_writer.tell(record, start(record), Crashed(0, "bug"), [], {})
    start(record, "open")
    assert standing_by_key(record.trials()) == {}
