"""Where the adapter of a study or of an MLflow run lies. ``sam2lora.trained`` asks this for names that are no paths."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import HarnessError
from harness.experiments.lookup import resolve
from harness.record.locations import default_storage, sqlite_file, study_folder, trial_folder
from harness.record.storage import open_to_read, usable
from harness.record.trials import best, read_trials
from harness.tracking.mlflow_database import check_schema
from harness.tracking.mlflow_tracking import default_tracking
from harness.tracking.mlflow_views import of_study
from sam2lora.errors import AdapterError
from sam2lora.files import ADAPTER
from sam2lora.trained import is_run


@contextmanager
def locate(where: str, results: Path, storage: str | None) -> Iterator[Path]:
    """The adapter file of a study's name or folder, or of an MLflow run: that one is a copy, gone on leaving.

    ``results``: where the harness wrote (``--out``); ``storage``: the record, ``results/optuna.db`` if None. Raises
    ``AdapterError``, with the nearest name where nothing is called so.
    """
    with TemporaryDirectory() as copies:
        yield _file(where, results, storage, Path(copies))


def _file(where: str, results: Path, storage: str | None, copies: Path) -> Path:
    try:
        if is_run(where):
            return _of_run(where.removeprefix("runs:/").partition("/")[0], results, copies)
        folder = Path(where)
        if folder.is_dir():
            return _best(folder.name, folder.parent, storage)
        return _best(where, results, storage)
    except HarnessError as error:
        raise AdapterError(f"An adapter must be a file, a folder, a study or an MLflow run. {error}") from error


def _best(name: str, results: Path, storage: str | None) -> Path:
    """The adapter of the completed trial with the highest validation score on the sources, the earliest of equals.

    One that was prompted from the ground truth is taken only where there is no other: its score does not compare.
    """
    url = storage or default_storage(results)
    study = resolve(name, url)
    with usable(url):
        trials = [trial for trial in read_trials(open_to_read(url), study) if trial.reference is None]
    winner = best(trials)
    if winner is None:
        raise AdapterError(
            f"A study needs a completed trial before it has a best one, but {study!r} has none among its "
            f"{len(trials)} trials: continue it."
        )
    file = trial_folder(study_folder(results, study), winner.key) / ADAPTER
    if not file.is_file():
        raise AdapterError(
            f"The best trial of {study!r}, number {winner.number}, must have left an adapter, but there is no {file}: "
            f"name the folder of the results with --runs."
        )
    return file


def _of_run(run_id: str, results: Path, copies: Path) -> Path:
    uri = default_tracking(results)
    file = sqlite_file(uri)
    if file is not None and not file.is_file():  # MLflow would create it
        raise AdapterError(f"An MLflow run must be on a server, but there is none at {uri}: set MLFLOW_TRACKING_URI.")
    try:
        check_schema(uri)
        client = MlflowClient(uri)
        run = _trained(client, client.get_run(run_id))
        if ADAPTER not in {file.path for file in client.list_artifacts(run.info.run_id)}:
            outcome = run.data.tags.get("outcome", "unknown")
            raise AdapterError(
                f"A run must have an adapter among its artifacts, but run {run_id} at {uri} has none (its outcome is "
                f"{outcome}): name a run of a completed trial."
            )
        return Path(
            mlflow.artifacts.download_artifacts(
                run_id=run.info.run_id, artifact_path=ADAPTER, dst_path=str(copies), tracking_uri=uri
            )
        )
    except (MlflowException, SQLAlchemyError, OSError) as error:
        first = str(error).partition("\n")[0]
        raise AdapterError(
            f"An MLflow run must be readable, but {run_id} at {uri} is not: {first}. Name the study, or the adapter's "
            f"file."
        ) from error


def _trained(client: MlflowClient, run: Run) -> Run:
    """The run that trained: of a study's run its best trial's, of a trial that reused another's result that one's."""
    tags = run.data.tags
    study = of_study(str(tags.get("sam2lora.study")), "trial")
    if tags.get("sam2lora.role") == "study":
        order = ["tags.oracle_prompt", 'metrics."val/dice" DESC', "tags.trial"]  # "no" before "yes"
        found = _first(client, run, f"{study} and tags.outcome = 'completed'", order)
        if found is None:
            raise AdapterError(
                f"A study needs a completed trial before it has a best one, but {run.info.run_id} has none."
            )
        return _trained(client, found)
    if number := tags.get("reused_from"):
        return _first(client, run, f"{study} and tags.trial = '{number}'", []) or run
    return run


def _first(client: MlflowClient, run: Run, text: str, order: list[str]) -> Run | None:
    found = client.search_runs([run.info.experiment_id], text, max_results=1, order_by=order)
    return found[0] if found else None
