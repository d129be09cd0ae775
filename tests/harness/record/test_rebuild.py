from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.storages import RDBStorage

from harness.errors import RecordError
from harness.record import optuna_writer
from harness.record.completeness import check_complete
from harness.record.journal import JOURNAL
from harness.record.locations import sqlite_file
from harness.record.rebuild import restore, set_damaged_aside, studies
from harness.record.study import Record, open_record
from sam2lora.files import RESULT, write_atomically
from sam2lora.integrity import seal

from ..conftest import QUESTION
from .test_journal import begun, filled, same


def foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE shopping (item TEXT)")
        database.commit()


def without_study(path: Path) -> None:
    optuna.delete_study(study_name="study", storage=f"sqlite:///{path}")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:9000])


LOSSES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(b"no database" * 2000),
    "truncated": truncated,
    "another program's": foreign,
    "study deleted": without_study,
}


def lose(record: Record, loss: Callable[[Path], object]) -> None:
    path = sqlite_file(record.storage_url)
    assert path is not None
    record.study._storage.remove_session()
    record.study._storage._backend.engine.dispose()  # the last connection puts the log into the file
    loss(path)


def result(record: Record, key: str) -> None:
    sealed = seal({"curve": [{"epoch": 1, "score": 0.3}, {"epoch": 2, "score": 0.5}], "scores": {}, "files": {}})
    write_atomically(record.files(key) / RESULT, lambda path: path.write_text(sealed))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_lost_record_stops_the_study_and_is_rebuilt(record: Record, loss: str) -> None:
    filled(record)
    result(record, "0")
    before, attributes = record.study.trials, record.study.user_attrs
    lose(record, LOSSES[loss])
    with pytest.raises(RecordError, match=r"python -m harness\.doctor .*--repair"):
        check_complete(record.storage_url, "study", record.folder)
    aside = set_damaged_aside(record.storage_url)
    assert (aside is not None) == (loss in ("garbage", "truncated", "another program's"))
    assert studies(record.out) == ["study"]
    restored = restore(record.storage_url, record.out, "study")
    assert (restored.trials, restored.lost) == ((0, 1, 2, 3, 4), ("of trial 4 its end: it is trained again",))
    check_complete(record.storage_url, "study", record.folder)
    again = open_record(record.storage_url, "study", record.out, dict(QUESTION), RandomSampler())
    assert again.study.user_attrs == attributes
    assert all(map(same, again.study.trials, before))


def test_a_record_from_a_copy_gets_what_came_later(record: Record) -> None:
    open_trial = begun(record, "first")
    path = sqlite_file(record.storage_url)
    assert path is not None
    with closing(sqlite3.connect(path)) as database, closing(sqlite3.connect(path.with_name("copy.db"))) as copy:
        database.backup(copy)
    optuna_writer.tell(record, open_trial, optuna_writer.Stopped(1, 0.2), [], {})
    filled(record)
    before = record.study.trials
    lose(record, lambda path: path.with_name("copy.db").replace(path))
    with pytest.raises(RecordError, match="holds 1 trial and lacks trial 0, trial 1, trial 2 and 3 more"):
        check_complete(record.storage_url, "study", record.folder)
    assert restore(record.storage_url, record.out, "study").trials == (0, 1, 2, 3, 4, 5)
    again = RDBStorage(record.storage_url).get_all_trials(1)
    assert [(t.state, t.values, t.user_attrs) for t in again] == [(t.state, t.values, t.user_attrs) for t in before]


def test_a_trial_whose_end_the_journal_lost_is_completed_from_its_result(record: Record) -> None:
    begun(record, "k")
    result(record, "k")
    lose(record, Path.unlink)
    restored = restore(record.storage_url, record.out, "study")
    assert restored.lost == ("of trial 0 its cost and its times",)
    (trial,) = RDBStorage(record.storage_url).get_all_trials(1)
    assert (trial.state.name, trial.value, trial.intermediate_values) == ("COMPLETE", 0.5, {1: 0.3, 2: 0.5})


def test_a_trial_that_nothing_knows_keeps_its_number(record: Record) -> None:
    filled(record)
    path = record.folder / JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if b'"number": 1,' not in line))
    lose(record, Path.unlink)
    restored = restore(record.storage_url, record.out, "study")
    assert restored.trials == (0, 2, 3, 4)
    assert restored.lost[0] == "of trial 1 all of it"
    assert [trial.number for trial in RDBStorage(record.storage_url).get_all_trials(1)] == [0, 1, 2, 3, 4]


def test_a_journal_of_another_history_is_not_mixed_in(record: Record) -> None:
    filled(record)
    record.study._storage.set_trial_user_attr(record.study.trials[4]._trial_id, "key", "other")
    with pytest.raises(RecordError, match=r"trial 4 is open in .* and other in the record"):
        restore(record.storage_url, record.out, "study")


def test_without_what_the_study_asks_nothing_is_rebuilt(record: Record) -> None:
    (record.folder / JOURNAL).unlink()
    result(record, "k")
    lose(record, Path.unlink)
    with pytest.raises(RecordError, match=r"does not say what 'study' asks: restore"):
        restore(record.storage_url, record.out, "study")
