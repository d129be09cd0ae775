"""How a trial is reported to Optuna: its start, its epochs and its outcome, such as diverged or out of memory.

Also what is reported of a trial that reuses or copies a result, is resumed, or is abandoned. ``tell`` is the commit
point: everything that a trial leaves behind is written before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Unpack, cast

import optuna
from optuna.trial import TrialState

from harness.record.objectives import values, worst
from harness.record.outcome import (
    KINDS,
    TEST_RESULTS,
    WORST,
    Completed,
    Crashed,
    Diverged,
    Infeasible,
    Outcome,
    OutOfMemory,
    Stopped,
)
from harness.record.study import Record
from harness.record.trials import Attributes, RecordedTrial
from sam2lora.credentials import hide


def _write(trial: optuna.Trial, **attributes: Unpack[Attributes]) -> None:
    for name, value in attributes.items():
        trial.set_user_attr(name, value)


def _close(record: Record, trial: optuna.Trial, values: Sequence[float] | None, state: TrialState) -> RecordedTrial:
    return record.note(record.study.tell(trial, values, state=state).number)


def begin(
    trial: optuna.Trial,
    key: str,
    config: str,
    replicate: str,
    excess: Mapping[str, float] | None = None,
    *,
    oracle_prompt: bool,
) -> None:
    """Write what a trial is about to run, before anything of it runs.

    ``excess``: by how much it misses each constraint of the search, met ones included: a sampler learns from both.
    ``oracle_prompt``: whether its scores will be reached with prompts drawn from the ground truth, ``Prompt.oracle`` of
    its test prompt. Readers of the record rely on it instead of the settings.
    """
    for name, value in (excess or {}).items():
        trial.set_constraint(name, value)
    _write(trial, key=key, config=config, oracle_prompt=oracle_prompt, replicate=json.loads(replicate))


def report(trial: optuna.Trial, epoch: int, score: float) -> None:
    """Write the validation score of an epoch. An epoch that is already there was replayed and is left as it is.

    Optuna keeps no intermediate values for several objectives: there the curve of the trial's attributes is all.
    """
    if len(trial.study.directions) > 1:
        return
    if epoch not in trial.storage.get_trial(trial._trial_id).intermediate_values:
        trial.report(score, epoch)


def tell(
    record: Record, trial: optuna.Trial, outcome: Outcome, curve: list[dict[str, float]], cost: Mapping[str, float]
) -> RecordedTrial:
    """Commit how a trial ended.

    The state is its kind's. Diverged has the worst value of every objective, which teaches the sampler; so has
    Infeasible, which violates its constraints, too: of samplers that learn from constraints TPE alone looks at trials
    that are not COMPLETE. OutOfMemory violates a constraint of its own.
    """
    kind = KINDS[type(outcome)]
    _write(
        trial,
        outcome={"kind": kind.name, "epoch": outcome.epoch, "why": hide(_why(outcome))},
        curve=curve,
        cost=dict(cost),
    )
    final: list[float] | None = None
    match outcome:
        case Completed():
            _write(trial, **_test_results(outcome))
            final = values(record.objectives, outcome.score, cost)
        case Diverged():
            report(trial, outcome.epoch, WORST)
            final = worst(record.objectives)
        case Infeasible():
            final = worst(record.objectives)
        case OutOfMemory():
            trial.set_constraint("memory", 1.0)
    return _close(record, trial, final, TrialState[kind.state])


def _why(outcome: Outcome) -> str:
    match outcome:
        case Completed():
            return "all epochs ran"
        case Stopped(epoch=epoch):
            return f"stopped by the scheduler after epoch {epoch}"
        case Diverged(why=why) | OutOfMemory(why=why) | Infeasible(why=why) | Crashed(why=why):
            return why


def _test_results(result: Completed | RecordedTrial) -> Attributes:
    return cast(Attributes, {name: getattr(result, name) for name in TEST_RESULTS})


def _copied(twin: RecordedTrial) -> Attributes:
    """The outcome of ``twin``, for another trial of the same key."""
    assert twin.outcome is not None
    assert twin.epoch is not None
    ending: Attributes = {
        "outcome": {"kind": twin.outcome, "epoch": twin.epoch, "why": twin.why},
        "curve": twin.curve,
    }
    return {**ending, **_test_results(twin)} if twin.completed else ending


def reuse(record: Record, trial: optuna.Trial, twin: RecordedTrial) -> RecordedTrial:
    """Give ``trial`` the outcome of ``twin``, which has the same key: the same experiment is never run twice.

    Its cost is zero, and ``reused_from`` names the twin.
    """
    first = twin.number if twin.reused_from is None else twin.reused_from
    _write(trial, reused_from=first, cost={})
    _write(trial, **_copied(twin))
    for epoch, score in sorted(twin.scores_by_epoch.items()):
        trial.report(score, epoch)
    present = record.trial(trial.number).constraints
    for name, value in twin.constraints.items():
        if name not in present:  # equal settings have equal constraints, and Optuna takes each once
            trial.set_constraint(name, value)
    return _close(record, trial, twin.values if twin.state == TrialState.COMPLETE else None, twin.state)


def copy(record: Record, trial: optuna.Trial, twin: RecordedTrial, study: str) -> RecordedTrial:
    """Give ``trial`` the result of ``twin``, a completed trial of equal key in another ``study``.

    It is a measurement of this study like any other, and its cost is what it cost there; ``copied_from`` says where.
    """
    _write(trial, copied_from={"study": study, "number": twin.number}, cost=twin.cost)
    _write(trial, **_copied(twin))
    for entry in twin.curve:
        report(trial, int(entry["epoch"]), entry["score"])
    return _close(record, trial, values(record.objectives, twin.values[0], twin.cost), TrialState.COMPLETE)


def reopen(record: Record, trial: RecordedTrial) -> optuna.Trial:
    """The handle of a trial that an earlier run left open."""
    return optuna.Trial(record.study, trial.trial_id)


def abandon(record: Record, trial: RecordedTrial) -> None:
    """Close a trial that was proposed but not started: it holds no settings, so that it cannot be resumed."""
    record.study.tell(trial.number, state=TrialState.FAIL)
    record.note(trial.number)
