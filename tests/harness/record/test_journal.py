from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest

from harness.record import journal, optuna_writer
from harness.record.journal import JOURNAL
from harness.record.outcome import Completed, Crashed, Infeasible, Stopped
from harness.record.study import Record

ENDINGS = (
    Completed(2, 0.5, {"cedar/dice": 0.6}, {"cedar": 4}, {"cedar": "target"}, {"alder/dice": 0.5}, {}, 0.4),
    Stopped(1, 0.3),
    Crashed(1, "bug"),
    Infeasible(0, "too large"),
)


def begun(record: Record, key: str) -> optuna.Trial:
    trial = record.study.ask()
    trial.suggest_float("lr", 1e-4, 1e-2, log=True)
    trial.suggest_categorical("loss", ("bce", "dice"))
    optuna_writer.begin(trial, key, "{}", json.dumps({"seed": 0, "fold": 0}), {"memory": 0.5}, oracle_prompt=False)
    record.note(trial.number)
    return trial


def filled(record: Record) -> None:
    """Trials of every ending and an open one."""
    for number, ending in enumerate(ENDINGS):
        trial = begun(record, str(number))
        optuna_writer.report(trial, 1, 0.3)
        optuna_writer.tell(record, trial, ending, [{"epoch": 1, "score": 0.3}], {"train_seconds": 1.5})
    begun(record, "open")


def same(a: optuna.trial.FrozenTrial, b: optuna.trial.FrozenTrial) -> bool:
    return all(
        getattr(a, name) == getattr(b, name)
        for name in (
            "state", "values", "params", "distributions", "user_attrs", "system_attrs", "intermediate_values",
            "datetime_start", "datetime_complete",
        )
    )  # fmt: skip


def test_a_journal_holds_what_the_record_holds(record: Record) -> None:
    filled(record)
    record.write(validation={"n": 3, "clusters": 2})
    kept = journal.read(record.folder)
    trials = record.study.trials
    assert all(same(journal.trial_of(kept.trials[trial.number]), trial) for trial in trials)
    assert kept.study is not None
    assert kept.study["attributes"] == record.study.user_attrs
    assert kept.ahead_of(trials) == []


def test_worst_values_may_be_infinite(record: Record) -> None:
    trial = optuna.trial.create_trial(values=[0.0, float("inf")])
    trial.number = 0
    journal.append_trial(trial, record.folder)
    assert journal.trial_of(journal.read(record.folder).trials[0]).values == [0.0, float("inf")]


@pytest.mark.parametrize("cut", [1, 30])
def test_a_line_that_was_cut_off_is_damaged_and_written_again(record: Record, cut: int) -> None:
    filled(record)
    path = record.folder / JOURNAL
    whole = journal.read(record.folder)
    path.write_bytes(path.read_bytes()[:-cut])
    assert bool(journal.read(record.folder).damaged) == (cut > 1), "only the line break is gone"
    journal.catch_up(record.study, record.folder)
    again = journal.read(record.folder)
    assert (again.study, again.trials) == (whole.study, whole.trials)


def test_a_changed_byte_is_damage(record: Record) -> None:
    filled(record)
    path = record.folder / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-1], lines[-1].replace(b"open", b"0pen")]))
    kept = journal.read(record.folder)
    assert kept.damaged == (len(lines),)
    assert 4 not in kept.trials


def test_a_record_that_is_behind_its_journal_has_lost_trials(record: Record) -> None:
    filled(record)
    kept, trials = journal.read(record.folder), record.study.trials
    assert kept.ahead_of(trials[:3]) == [3, 4]
    assert kept.ahead_of([]) == [0, 1, 2, 3, 4]


def test_a_missing_journal_is_empty_and_caught_up(record: Record, tmp_path: Path) -> None:
    assert journal.read(tmp_path / "nowhere") == journal.Journal()
    filled(record)
    (record.folder / JOURNAL).unlink()
    journal.catch_up(record.study, record.folder)
    assert sorted(journal.read(record.folder).trials) == [0, 1, 2, 3, 4]
    size = (record.folder / JOURNAL).stat().st_size
    journal.catch_up(record.study, record.folder)
    assert (record.folder / JOURNAL).stat().st_size == size, "nothing is written twice"
