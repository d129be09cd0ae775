"""What is away for a while is waited for, what stays away is not waited for forever, and neither in silence."""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path

import optuna
import pytest

from harness import patience
from harness.errors import RecordError
from harness.patience import PATIENCE, await_server, patiently
from harness.record.storage import open_storage, usable


def test_a_server_that_comes_back_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        waits: list[float] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                server.listen()

        await_server(address, "MLflow", sleep)
    assert len(waits) == 3
    said = capsys.readouterr().err
    assert said.count("Waiting up to 60 s for MLflow at 127.0.0.1:") == 1
    assert "Connection refused" in said
    assert "Back after" in said


def test_a_server_that_stays_away_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        waits: list[float] = []
        await_server(f"postgresql+psycopg://127.0.0.1:{server.getsockname()[1]}/x", "the record", waits.append)
    assert PATIENCE <= sum(waits) <= PATIENCE + 5
    assert "Back" not in capsys.readouterr().err


@pytest.mark.parametrize("address", ["sqlite:////tmp/x.db", "file:///tmp/x", "http://no-such-host.invalid:5000"])
def test_what_cannot_come_back_is_not_waited_for(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    await_server(address, "it", lambda seconds: pytest.fail("waited"))
    assert capsys.readouterr().err == ""


def test_another_error_is_raised_at_once() -> None:
    with pytest.raises(ZeroDivisionError):
        patiently(lambda: 1 // 0, lambda error: isinstance(error, OSError), "it", lambda seconds: pytest.fail("waited"))


def test_a_locked_record_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    storage = open_storage(url)
    other = sqlite3.connect(tmp_path / "optuna.db", isolation_level=None)
    with storage.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=0")
    other.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr("time.sleep", lambda seconds: other.in_transaction and other.execute("ROLLBACK"))
    study = optuna.create_study(storage=storage, study_name="kept")
    assert study.study_name == "kept"
    said = capsys.readouterr().err
    assert "Waiting up to" in said
    assert "database is locked" in said
    assert "Back after" in said
    other.close()


def test_a_record_that_stays_locked_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.0)
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    storage = open_storage(url)
    with storage.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout=0")
    other = sqlite3.connect(tmp_path / "optuna.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(RecordError, match="database is locked"), usable(url):
        optuna.create_study(storage=storage, study_name="lost")
    other.close()
