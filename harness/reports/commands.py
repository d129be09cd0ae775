"""The commands that reports and messages tell, to be pasted into a shell."""

from __future__ import annotations

import shlex
from pathlib import Path

from harness.experiments import declarations
from harness.record.table import StudyTable


def go_on(table: StudyTable) -> str:
    """What goes on with a study: the command that began it, as it was typed, if the record has it."""
    return str(table.provenance.get("command") or declarations.command(str(table.question.get("search", table.name))))


def report(table: StudyTable) -> str:
    """What makes the report of a study again, from where it was read."""
    words = ["python", "-m", "harness.report", str(table.question.get("search", table.name)), "--study", table.name]
    if table.out.resolve() != Path("runs").resolve():
        words += ["--out", str(table.out)]
    if table.storage not in {f"sqlite:///{out / 'optuna.db'}" for out in (table.out, table.out.resolve())}:
        words += ["--storage", table.storage]
    return shlex.join(words)


def mlflow(uri: str) -> str:
    """What opens MLflow: its command for a local store, the address itself for a server."""
    return shlex.join(["open", uri] if uri.startswith("http") else ["mlflow", "ui", "--backend-store-uri", uri])


def dashboard(storage: str) -> str:
    """What opens a record in Optuna's own dashboard, which has to be installed for it."""
    return shlex.join(["optuna-dashboard", storage])
