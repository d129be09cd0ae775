"""MLflow's local database: made whole or not at all, and made again from the record where it is broken."""

from __future__ import annotations

import shlex
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
from alembic.script import ScriptDirectory
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store import db_migrations
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import TrackingError
from harness.record.locations import sqlite_file
from harness.record.storage import create_database, damaged_pages, schema_version, set_aside
from sam2lora.files import locked

_CUT_OFF = ("already exists", "duplicate column", "_alembic_tmp_")
"""What SQLite says of a migration that meets the leavings of one that was killed."""


def artifact_root(uri: str, out: Path) -> str | None:
    """Where files of runs go: next to a local file, among the results in ``out`` where the address is another database.

    None: where the server says. MLflow would take a folder of the working directory for a database.
    """
    if urlsplit(uri).scheme.partition("+")[0] not in DATABASE_ENGINES:
        return None
    database = sqlite_file(uri)
    return _artifacts_in(out if database is None else database.parent)


def _artifacts_in(folder: Path) -> str:
    return (folder / "mlartifacts").resolve().as_uri()


def create(uri: str) -> None:
    """Make MLflow's local file at ``uri`` where there is none; its first migration takes seconds."""
    if (path := sqlite_file(uri)) is not None:
        create_database(uri, lambda draft: SqlAlchemyStore(draft, _artifacts_in(path.parent)).engine.dispose())


def check_schema(uri: str) -> None:
    """Raise ``TrackingError`` where another version of MLflow, or another program, has filled the database at ``uri``.

    MLflow migrates an earlier one without a word, and then its earlier version cannot open it any more. Of a server
    nothing is checked: it answers for its database.
    """
    if uri.partition("://")[0].partition("+")[0] not in DATABASE_ENGINES:
        return
    version, scripts = schema_version(uri), ScriptDirectory(str(Path(db_migrations.__file__).parent))
    if version in (None, scripts.get_current_head()):
        return
    if version.startswith("v"):
        raise TrackingError(
            f"MLflow must have a database of its own, but {uri} holds a record of Optuna (schema {version}): name "
            f"another in MLFLOW_TRACKING_URI, on the same server if you like."
        )
    known = version in {script.revision for script in scripts.walk_revisions()}
    remedy = (
        f"Copy it, then upgrade it: mlflow db upgrade {shlex.quote(uri)}"
        if known
        else "Install the later version of MLflow that wrote it, or name another in MLFLOW_TRACKING_URI."
    )
    raise TrackingError(
        f"MLflow's database must have the schema of version {mlflow.__version__}, but {uri} has that of "
        f"{'an earlier' if known else 'a later'} version ({version}). {remedy}"
    )


def renew(uri: str, error: Exception) -> str:
    """Set the local file at ``uri``, which cannot be used because of ``error``, aside if it is broken; make a new one.

    Returns what a person should know of it, as sentences; "" where another process was faster. Raises ``error`` for a
    file that is not broken, and for a server.
    """
    path = sqlite_file(uri)
    if path is None:
        raise error
    with locked(path):
        if _works(uri):
            return ""
        why = damaged_pages(path) or next((str(error) for sign in _CUT_OFF if sign in str(error)), None)
        if why is None:
            raise error
        aside = set_aside(path)
    SqlAlchemyStore._get_or_create_engine(uri).dispose()  # MLflow keeps connections to the file that was there
    create(uri)
    first = why.partition("\n")[0]
    return (
        f"MLflow's file must be a whole database, but {path} is not: {first}. It is now {aside.name}, and this study "
        f"is written into a new file from the record. Runs of other studies come back when their commands run again."
    )


def _works(uri: str) -> bool:
    try:
        MlflowClient(uri).search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError):
        return False
    return True
