"""Another process holds a database, or it may not be written."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from .conftest import Fault
from .test_disks import mount


@contextmanager
def held(path: Path) -> Iterator[None]:
    """The database while another process writes into it."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.parametrize("name", ["optuna", "mlflow"])
def test_a_locked_database(name: str, fault: Fault) -> None:
    """Locked in the middle until the command has ended, then while the next one starts, then free."""
    store = "the record" if name == "optuna" else "MLflow's file"
    with fault(f"{store} locked", tries=2) as study:
        database = study.out / f"{name}.db"
        with study.started() as running:
            assert running.wait_for(lambda: len(study.trained()) >= 2), running.output()
            with held(database):
                status, output = running.end()
        assert status == (2 if name == "optuna" else 0), output
        with held(database):
            status, output = study.run()
        assert status == 2, output
        assert "Traceback" not in output
        study.finish()


def test_a_read_only_folder(fault: Fault) -> None:
    with fault("run folder read-only") as study:
        with study.started() as running:
            assert running.wait_for(lambda: len(study.trained()) >= 2), running.output()
            running.kill()
        mount("--bind", str(study.out), str(study.out))
        try:
            mount("-o", "remount,ro,bind", str(study.out))
            status, output = study.run()
        finally:
            subprocess.run(["umount", "--lazy", str(study.out)], check=True)
        assert status == 2, output
        assert "Traceback" not in output
        study.finish()
