"""Whether the record and MLflow can be used: reached, whole, and of the schema of the installed versions."""

from __future__ import annotations

from collections.abc import Iterator

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import RecordError
from harness.health.finding import Finding, Problem, Sound
from harness.record.locations import sqlite_file
from harness.record.storage import damage, damaged_pages, is_there, open_storage
from harness.text import count


def examine(storage_url: str, mlflow_uri: str) -> Iterator[Finding]:
    """Findings on both stores. Nothing is created."""
    yield record(storage_url)
    yield tracking(mlflow_uri)


def record(storage_url: str) -> Finding:
    """The database of the record."""
    path = sqlite_file(storage_url)
    if not is_there(storage_url):
        return Sound("record", f"none yet at {storage_url}")
    if path is not None and (why := damage(path) or damaged_pages(path)) is not None:
        return Problem(
            "record", "The record must be a whole database of Optuna's", f"{storage_url} is not: {why}",
            "--repair sets it aside and rebuilds it",
        )  # fmt: skip
    try:
        storage = open_storage(storage_url)
        studies = len(storage.get_all_studies())
    except (RecordError, RuntimeError) as error:  # Optuna says by a RuntimeError that its schema is another
        return Problem("record", "The record must be readable", f"it is not ({error})", "do as it says")
    return Sound("record", f"{count(studies, 'study') if studies == 1 else f'{studies} studies'} in {storage_url}")


def tracking(uri: str) -> Finding:
    """The database or the server of MLflow."""
    path = sqlite_file(uri)
    if not is_there(uri):
        return Sound("MLflow", f"none yet at {uri}")
    if path is not None and (why := damaged_pages(path)) is not None:
        return Problem(
            "MLflow", "MLflow's file must be a whole database", f"{path} is not: {why}",
            "--repair sets it aside and writes it again from the record",
        )  # fmt: skip
    try:
        MlflowClient(uri).search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first = str(error).partition("\n")[0]
        return Problem(
            "MLflow", "MLflow must answer", f"{uri} does not ({first})",
            "start the server, correct MLFLOW_TRACKING_URI or --mlflow, or migrate it with mlflow db upgrade",
        )  # fmt: skip
    return Sound("MLflow", f"answers at {uri}")
