"""Where the results of a run lie: its databases, the folder of each study, and that of each trial."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from harness.errors import RecordError
from sam2lora.files import TRIALS

RECORD = "optuna.db"
"""The database of the record among the results, where ``--storage`` names none."""
LOCK = ".lock"
"""The file in a study's folder that is locked while a process runs the study."""


def sqlite_url(path: Path) -> str:
    """The address of the SQLite database in the file ``path``. Raises ``RecordError`` where an address would end."""
    if "?" in str(path):
        raise RecordError(
            f"The folder of a database must have a path without a question mark, which ends the path in an address, "
            f"but {path.parent} has one: name another folder."
        )
    return f"sqlite:///{path}"


def default_storage(out: Path) -> str:
    """The address of the record of the results in ``out``, where ``--storage`` names none."""
    return sqlite_url(out / RECORD)


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite address, which options may follow; None of any other address."""
    try:
        address = make_url(url)
    except ArgumentError:
        return None
    if address.get_backend_name() != "sqlite" or not address.database or "uri" in address.query:
        return None
    return Path(address.database)


def same_database(one: str, other: str) -> bool:
    """Whether two addresses name one database, whoever logs in."""
    files = sqlite_file(one), sqlite_file(other)
    if files[0] is not None and files[1] is not None:
        return files[0].resolve() == files[1].resolve()
    try:
        first, second = (
            (address.get_backend_name(), address.host, address.port, address.database, address.query)
            for address in map(make_url, (one, other))
        )
    except ArgumentError:
        return False
    return first == second


def study_folder(out: Path, study: str) -> Path:
    """The folder of a study's files; the name of a study may hold slashes."""
    return out / study


def trial_folder(study: Path, key: str) -> Path:
    """The folder of a trial's files (`sam2lora.files`) in the folder of its study."""
    return study / TRIALS / key


def report_folder(study: Path) -> Path:
    """The folder of a study's report in the folder of the study."""
    return study / "report"
