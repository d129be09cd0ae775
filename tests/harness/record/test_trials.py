"""What a record holds reads back as it was written, from every version that wrote one."""

from __future__ import annotations

import ast
import json
from dataclasses import fields
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial

import harness
from harness.record import optuna_writer
from harness.record.outcome import Completed, Crashed, Stopped
from harness.record.study import Record
from harness.record.trials import Attributes, RecordedTrial, is_sampled, read_trials, reference_of, standing_by_key

COMPLETED = Completed(3, 0.7, {"cedar/dice": 0.6}, {"cedar": 4}, {"cedar": "target"}, {"alder/dice": 0.7}, {}, 0.4)
CURVE = [{"epoch": 1, "score": 0.3}]
HARNESS = Path(harness.__file__).parent


def start(record: Record, key: str = "k", **marks: object) -> optuna.Trial:
    record.study.enqueue_trial({}, user_attrs=marks)
    trial = record.study.ask()
    optuna_writer.begin(trial, key, '{"epochs": 3}', json.dumps({"seed": 4, "fold": 1}), oracle_prompt=True)
    return trial


def test_a_completed_trial_reads_back_as_it_was_written(record: Record) -> None:
    optuna_writer.tell(record, start(record), COMPLETED, CURVE, {"train_seconds": 2.0})
    trial = record.trial(0)
    assert (trial.key, trial.settings, trial.replicate, trial.oracle_prompt) == (
        "k",
        {"epochs": 3},
        {"seed": 4, "fold": 1},
        True,
    )
    assert (trial.outcome, trial.epoch, trial.why) == ("completed", 3, "all epochs ran")
    assert (trial.values, trial.curve, trial.cost) == ((0.7,), CURVE, {"train_seconds": 2.0})
    assert (trial.scores, trial.n_images, trial.roles) == (COMPLETED.scores, COMPLETED.n_images, COMPLETED.roles)
    assert (trial.validation, trial.undefined, trial.threshold) == (COMPLETED.validation, {}, 0.4)
    assert trial.completed
    assert trial.stands
    assert not trial.resumable
    assert trial.started is not None
    assert trial.finished is not None
    assert read_trials(record.study._storage, "study") == [trial]


def test_every_attribute_is_a_field() -> None:
    """`RecordedTrial` leaves nothing of what is written unread; ``outcome`` and its reason are fields of their own."""
    assert set(Attributes.__annotations__) <= {field.name for field in fields(RecordedTrial)}


def test_names_in_the_storage_are_the_names_of_the_record(record: Record) -> None:
    first = start(record, reference="defaults")
    optuna_writer.tell(record, first, COMPLETED, CURVE, {})
    optuna_writer.reuse(record, start(record, probe=True, point=2), record.trial(0))
    optuna_writer.copy(record, start(record), record.trial(0), "other")
    written = set().union(*(trial.user_attrs for trial in record.study.trials))
    assert written == set(Attributes.__annotations__)


def test_an_outcome_counts_once_its_trial_is_closed(record: Record) -> None:
    """`tell` writes the outcome before it commits: a run that dies in between leaves an open trial."""
    start(record).set_user_attr("outcome", {"kind": "completed", "epoch": 3, "why": ""})
    trial = record.trial(0)
    assert trial.outcome is None
    assert trial.resumable
    assert not trial.stands


def test_a_trial_that_was_asked_for_alone_cannot_be_resumed(record: Record) -> None:
    record.study.ask()
    trial = record.trial(0)
    assert trial.state == TrialState.RUNNING
    assert not trial.resumable
    assert (trial.key, trial.settings, trial.replicate) == ("", {}, None)


@pytest.mark.parametrize(
    ("marks", "sampled"), [({}, True), ({"probe": True, "point": 0}, False), ({"reference": "defaults"}, False)]
)
def test_a_sampler_sees_neither_probe_nor_reference(record: Record, marks: dict[str, object], sampled: bool) -> None:
    started = start(record, **marks)
    trial = record.trial(0)
    assert (trial.sampled, is_sampled(record.study.trials[0])) == (sampled, sampled)
    assert (trial.probe, trial.point) == ("probe" in marks, marks.get("point"))
    assert trial.reference == reference_of(started) == marks.get("reference")


def test_of_equal_keys_the_completed_trial_stands(record: Record) -> None:
    optuna_writer.tell(record, start(record), Stopped(1, 0.3), CURVE, {})
    optuna_writer.tell(record, start(record), COMPLETED, CURVE, {})
    optuna_writer.tell(record, start(record, "other"), Crashed(0, "bug"), [], {})
    assert {key: trial.number for key, trial in standing_by_key(record.trials()).items()} == {"k": 1}


def test_a_trial_of_another_version_lacks_what_that_did_not_write() -> None:
    trial = RecordedTrial.of(create_trial(value=0.5, user_attrs={"key": "k", "outcome": {"kind": "completed"}}))
    assert (trial.outcome, trial.epoch, trial.why) == ("completed", None, "")
    assert (trial.oracle_prompt, trial.undefined, trial.threshold, trial.scores) == (None, None, None, {})


def test_outside_the_record_nothing_is_looked_up_in_attributes() -> None:
    """A name that is spelled in one place can be found, typed and changed there."""
    paths = [path for path in HARNESS.rglob("*.py") if path.parent.name != "record"]
    assert paths
    assert [
        f"{path.name}:{node.lineno}"
        for path in paths
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("user_attrs", "set_user_attr")
    ] == []
