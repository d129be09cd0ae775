"""MLflow's local file: whole or not there, and written again from the record where it is broken."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from sqlalchemy.exc import OperationalError

from harness.errors import TrackingError
from harness.record.study import Record
from harness.tracking import mlflow_database
from harness.tracking.mlflow_database import create, renew
from harness.tracking.mlflow_tracker import MlflowTracker
from sam2lora import trained
from sam2lora.errors import AdapterError

from ..conftest import QUESTION
from .test_mlflow_tracker import MATERIALS, runs

CREATE = "import sys; from harness.tracking.mlflow_database import create; create(sys.argv[1])"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "mlflow.db"
    create(f"sqlite:///{path}")
    return path


def test_a_kill_in_the_first_migration_leaves_no_half_file(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    draft = tmp_path / ".mlflow.db.draft"
    with subprocess.Popen([sys.executable, "-c", CREATE, f"sqlite:///{path}"], stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (draft.exists() and draft.stat().st_size > 2**16):
            pass
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it was killed before it ended"
    assert not path.exists()
    create(f"sqlite:///{path}")
    assert [found.name for found in MlflowClient(f"sqlite:///{path}").search_experiments()] == ["Default"]


def foreign(path: Path) -> None:
    path.write_bytes(b"no database at all" * 1000)


def torn(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:8192] + bytes(len(content) - 8192))


def cut_off(path: Path) -> None:
    """As a kill in the middle of a migration leaves it: tables are there that it would make again."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("DELETE FROM alembic_version")
        database.execute("DROP TABLE metrics")
        database.commit()


@pytest.mark.parametrize("damage", [foreign, torn, cut_off])
def test_a_broken_file_is_set_aside_and_written_again_from_the_record(
    damage: Callable[[Path], None], made: Path, record: Record, tmp_path: Path
) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(made, path)
    damage(path)
    before = path.read_bytes()
    tracker = MlflowTracker(f"sqlite:///{path}", record, QUESTION, MATERIALS)
    assert "It is now mlflow.db.damaged, and this study is written into a new file" in tracker.wait()
    tracker.close(None)
    assert list(runs(f"sqlite:///{path}")) == ["study"]
    assert (tmp_path / "mlflow.db.damaged").read_bytes()[:16] == before[:16]


def test_a_whole_file_is_never_set_aside(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(made, path)
    busy = OperationalError("INSERT", {}, Exception("database is locked"))
    assert renew(f"sqlite:///{path}", busy) == "", "another process made it again"
    monkeypatch.setattr(mlflow_database, "_works", lambda uri: False)
    with pytest.raises(OperationalError, match="database is locked"):
        renew(f"sqlite:///{path}", busy)
    with pytest.raises(OperationalError, match="database is locked"):
        renew("http://tracking:5000", busy)
    assert path.read_bytes() == made.read_bytes()


@pytest.mark.parametrize(
    ("version", "remedy"),
    [
        ("451aebb31d03", r"an earlier version .*Copy it, then upgrade it: mlflow db upgrade sqlite:////"),
        ("zzzzzzzzzzzz", r"a later version .*Install the later version of MLflow"),
        ("v3.2.0.a", r"holds a record of Optuna .*name another in MLFLOW_TRACKING_URI"),
    ],
)
def test_a_file_of_another_version_is_refused_and_never_migrated(
    version: str, remedy: str, made: Path, record: Record, tmp_path: Path
) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(made, path)
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE alembic_version SET version_num = ?", (version,))
        database.execute("DROP TABLE trace_info")  # as if a later version had added it
        database.commit()
    before = path.read_bytes()
    tracker = MlflowTracker(f"sqlite:///{path}", record, QUESTION, MATERIALS)
    with pytest.raises(TrackingError, match=remedy):
        tracker.wait()
    with pytest.raises(AdapterError, match=remedy):
        trained.find("runs:/" + 32 * "a", tmp_path)
    assert path.read_bytes() == before
