from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from optuna.samplers import RandomSampler

from harness.errors import RecordError
from harness.record import storage, table
from harness.record.locations import sqlite_url
from harness.record.storage import LOCAL, file_system, open_storage, open_to_read, write_ahead
from harness.record.study import Record, open_record

from ..conftest import QUESTION


def test_a_record_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    (tmp_path / "broken.db").write_bytes(b"this is not a database" * 100)
    for url in (f"sqlite:///{tmp_path / 'broken.db'}", "sqlite:////proc/optuna.db"):
        with pytest.raises(RecordError, match=r"(?s)must be a (whole )?database.*--storage"):
            open_record(url, "study", tmp_path, QUESTION, RandomSampler())


def test_the_folder_of_a_record_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"must be in a folder that exists, but .*nope of .* does not: make it"):
        open_record(f"sqlite:///{tmp_path / 'nope/x.db'}", "study", tmp_path, QUESTION, RandomSampler())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("version", "remedy"),
    [
        ("v3.0.0.d", r"an earlier version .*Copy it, then upgrade it: optuna storage upgrade --storage sqlite:////"),
        ("v9.0.0.a", r"a later version .*Install the later version of Optuna"),
        ("451aebb31d03", r"tables of another program, such as MLflow .*name another database with --storage"),
    ],
)
def test_a_record_of_another_version_is_refused_and_left_as_it_is(record: Record, version: str, remedy: str) -> None:
    path = Path(record.storage_url.removeprefix("sqlite:///"))
    record.study._storage.remove_session()
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", (version,))
        database.execute("DROP TABLE study_system_attributes")  # as if a later version had added it
    for opened in (open_storage, open_to_read):
        with pytest.raises(RecordError, match=remedy):
            opened(record.storage_url)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [(version,)]
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    assert "study_system_attributes" not in tables


def test_a_path_may_hold_whatever_a_folder_may(tmp_path: Path) -> None:
    folder = tmp_path / "My Lab (1) [2] {3} #4 50% ü & 'x'"
    folder.mkdir()
    url = f"{sqlite_url(folder / 'optuna.db')}?timeout=60"
    record = open_record(url, "study", folder, QUESTION, RandomSampler())
    record.study.ask()
    assert table.read(url, "study", folder).trials["number"].tolist() == [0]
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    assert (folder / "optuna.db").is_file()


def journal(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        return str(database.execute("PRAGMA journal_mode").fetchone()[0])


def test_a_record_on_a_local_disk_writes_ahead(record: Record) -> None:
    assert file_system(record.folder) in LOCAL
    path = Path(record.storage_url.removeprefix("sqlite:///"))
    assert journal(path) == "wal"
    record.study.ask()
    assert len(list(path.parent.glob(f"{path.name}*"))) == 3, "the file, its log and their index"
    assert len(open_storage(record.storage_url).get_all_studies()) == 1


def test_a_file_system_that_machines_may_share_keeps_its_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "file_system", lambda path: "nfs4")
    write_ahead(f"sqlite:///{tmp_path / 'shared.db'}")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_write_ahead_is_left_as_it_is(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_text("no database at all " * 100)
    write_ahead(f"sqlite:///{damaged}")
    assert damaged.read_text().startswith("no database")
    write_ahead("postgresql://nobody@nowhere/nothing")

    busy = tmp_path / "busy.db"
    with closing(sqlite3.connect(busy)) as holder:
        holder.execute("CREATE TABLE one (number)")
        holder.execute("BEGIN EXCLUSIVE")
        write_ahead(f"sqlite:///{busy}")
    assert journal(busy) == "delete"


KILLED = """
import os, sys
from pathlib import Path
from harness.record.storage import create_database

def make(draft):
    Path(draft.removeprefix("sqlite:///")).write_bytes(b"half")
    os.kill(os.getpid(), 9)

create_database(sys.argv[1], make)
"""


def test_a_process_killed_while_it_makes_a_database_leaves_none(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    assert subprocess.run([sys.executable, "-c", KILLED, url], check=False).returncode == -9
    assert not (tmp_path / "new.db").exists()
    assert open_storage(url).get_all_studies() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new.db.lock", "new.db"]


OPENED = """
import sys
import optuna
from harness.record.storage import open_storage

sys.stdin.read()  # all begin at once
optuna.create_study(storage=open_storage(sys.argv[1]), study_name=sys.argv[2])
"""


def test_processes_that_make_a_record_at_once_make_one(tmp_path: Path) -> None:
    url, names = f"sqlite:///{tmp_path / 'new.db'}", ["a", "b", "c", "d"]
    together = [
        subprocess.Popen([sys.executable, "-c", OPENED, url, name], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for name in names
    ]
    for process in together:
        assert process.stdin is not None
        process.stdin.close()
    outputs = [process.stderr.read().decode() for process in together if process.stderr is not None]
    for process in together:
        process.wait()
    assert [process.returncode for process in together] == [0] * 4, outputs
    assert sorted(study.study_name for study in open_storage(url).get_all_studies()) == names


def test_the_log_of_a_file_that_is_gone_is_not_read_into_a_new_one(record: Record, tmp_path: Path) -> None:
    path = Path(record.storage_url.removeprefix("sqlite:///"))
    log = path.with_name(f"{path.name}-wal")
    assert log.stat().st_size > 0
    path.unlink()
    assert open_storage(record.storage_url).get_all_studies() == []
    assert path.with_name(f"{path.name}.damaged-wal").exists()


@pytest.mark.parametrize("tables", [("shopping",), ("experiments", "runs")])
def test_the_database_of_another_program_is_left_alone(tables: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as database:
        for table in tables:
            database.execute(f"CREATE TABLE {table} (number)")
    before = path.read_bytes()
    with pytest.raises(RecordError, match=f"it holds the tables {', '.join(tables)} and none of Optuna's"):
        open_storage(f"sqlite:///{path}")
    assert path.read_bytes() == before
