"""An MLflow server dies while trials run, and is back for the next run of the same command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil

from .conftest import Fault


@contextmanager
def server(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's server on this machine, once it answers."""
    folder.mkdir(exist_ok=True)
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder / 'server.db'}",
        "--artifacts-destination", str(folder / "artifacts"),
    ]  # fmt: skip
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        while not answers(port):
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.2)
                raise AssertionError((folder / "server.log").read_text())
        yield process
    finally:
        kill_all(process)


def answers(port: int) -> bool:
    with suppress(OSError):
        return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200)
    return False


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """Kill a server and its workers, as a machine that goes down does."""
    with suppress(psutil.NoSuchProcess):
        for each in (*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)):
            with suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
    process.wait()


def test_a_server_that_dies_while_trials_run(fault: Fault, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    with ExitStack() as servers, fault("MLflow server killed while trials run", tracking=address) as study:
        process = servers.enter_context(server(tmp_path / "server", port))
        with study.started() as running:
            assert running.wait_for(lambda: len(study.trained()) >= 2), running.output()
            kill_all(process)
            status, output = running.end()
        assert status == 0, output
        assert "Nothing is lost" in output
        servers.enter_context(server(tmp_path / "server", port))
        study.finish()
