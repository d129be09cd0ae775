"""Where the results of a run lie: its databases, the folder of each study, and that of each trial."""

from __future__ import annotations

from pathlib import Path

from sam2lora.files import TRIALS

RECORD = "optuna.db"
"""The database of the record among the results, where ``--storage`` names none."""
LOCK = ".lock"
"""The file in a study's folder that is locked while a process runs the study."""


def default_storage(out: Path) -> str:
    """The address of the record of the results in ``out``, where ``--storage`` names none."""
    return f"sqlite:///{out / RECORD}"


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite address, which options may follow; None of any other address."""
    return Path(url.removeprefix("sqlite:///").partition("?")[0]) if url.startswith("sqlite:///") else None


def study_folder(out: Path, study: str) -> Path:
    """The folder of a study's files; the name of a study may hold slashes."""
    return out / study


def trial_folder(study: Path, key: str) -> Path:
    """The folder of a trial's files (`sam2lora.files`) in the folder of its study."""
    return study / TRIALS / key


def report_folder(study: Path) -> Path:
    """The folder of a study's report in the folder of the study."""
    return study / "report"
