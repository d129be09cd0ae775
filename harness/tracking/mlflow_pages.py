"""MLflow's pages of a study, served from its database."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryFile
from time import monotonic, sleep
from typing import IO

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import TrackingError
from harness.record.locations import sqlite_file
from harness.tracking.mlflow_views import of_study

_START = 60.0  # seconds; MLflow's server needs 5 to 15
_LOOK = 0.2  # seconds


def experiment_of(address: str, study: str) -> str:
    """The experiment that holds ``study`` in the MLflow at ``address``, a database or a server.

    Raises ``TrackingError`` where there is no such file, nothing answers, or no run is of that study.
    """
    file = sqlite_file(address)
    if file is not None and not file.is_file():  # MLflow would create it
        raise TrackingError(
            f"MLflow's database must exist, but there is none at {address}: run the study again, which writes "
            f"it from the record, or name the folder of the results with --out."
        )
    try:
        client = MlflowClient(address)
        experiments = [one.experiment_id for one in client.search_experiments()]
        runs = client.search_runs(experiments, of_study(study, "study"), max_results=1)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first = str(error).partition("\n")[0]
        raise TrackingError(f"MLflow must be readable, but {address} is not: {first}.") from error
    if not runs:
        raise TrackingError(
            f"MLflow at {address} must hold the study {study!r}, but has no run of it: run the study again, "
            f"which writes what is missing from the record."
        )
    return str(runs[0].info.experiment_id)


@contextmanager
def served(address: str, port: int) -> Iterator[str]:
    """The address of a server of this machine for the MLflow database ``address``, which ends on leaving.

    Raises ``TrackingError`` where ``port`` is taken or the server does not answer within a minute.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise TrackingError(
                f"The port of MLflow's pages must be free, but {port} is not ({error.strerror}): choose another with "
                f"--port, or open the pages that are there."
            ) from error
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    base = f"http://127.0.0.1:{port}"
    with TemporaryFile("w+") as log:
        # In a variable: arguments can be read by everyone on the machine.
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, "MLFLOW_BACKEND_STORE_URI": address}
        )
        try:
            _await(server, base, log)
            yield base
        finally:
            server.terminate()
            server.wait()


def _await(server: subprocess.Popen[bytes], base: str, log: IO[str]) -> None:
    deadline = monotonic() + _START
    while not _answers(base):
        if server.poll() is not None:
            log.seek(0)
            last = log.read().strip().rpartition("\n")[2]
            raise TrackingError(f"MLflow's server must start, but it ended with status {server.returncode}: {last}")
        if monotonic() > deadline:
            raise TrackingError(f"MLflow's server must answer within {_START:.0f} s, but {base} does not: try again.")
        sleep(_LOOK)


def _answers(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
