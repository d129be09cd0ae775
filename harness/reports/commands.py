"""The commands that reports and messages show, to be pasted into a shell."""

from __future__ import annotations

import shlex
from pathlib import Path

from harness.experiments import declarations
from harness.record.locations import default_storage
from harness.record.table import StudyTable
from sam2lora.credentials import STORAGE, masked


def go_on(table: StudyTable) -> str:
    """The command that continues a study: the one that started it, as it was typed, if the record has it."""
    return str(table.provenance.get("command") or declarations.command(str(table.question.get("search", table.name))))


def report(table: StudyTable) -> str:
    """The command that writes the report of a study again, from the same record."""
    words = ["python", "-m", "harness.report", str(table.question.get("search", table.name)), "--study", table.name]
    if table.out.resolve() != Path("runs").resolve():
        words += ["--out", str(table.out)]
    if table.storage not in {default_storage(out) for out in (table.out, table.out.resolve())}:
        words += ["--storage", masked(table.storage)]
    return shlex.join(words)


def dashboard(storage: str) -> str:
    """The command that opens a record in Optuna's dashboard, which must be installed."""
    if masked(storage) != storage:
        return f'optuna-dashboard "${{{STORAGE}:?}}"'
    return shlex.join(["optuna-dashboard", storage])
