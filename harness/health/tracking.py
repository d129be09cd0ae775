"""Whether MLflow shows what the record of a study holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from harness.health.finding import Finding, Problem, Sound
from harness.health.study import in_use
from harness.record.completeness import frozen_trials
from harness.record.outcome import KIND_OF
from harness.record.storage import is_there
from harness.record.study import Record, load_record
from harness.record.trials import RecordedTrial
from harness.text import abridged, count
from harness.tracking.mlflow_tracker import SEALED, WRITTEN, final_metrics, final_tags, search_runs
from harness.tracking.mlflow_views import of_study

_RULE = "MLflow must show what the record holds"


def examine(storage_url: str, uri: str, out: Path, name: str) -> Iterator[Finding]:
    """Findings on the runs of the study ``name`` in MLflow at ``uri``; none where the record has no such study."""
    if not frozen_trials(storage_url, name) or not is_there(uri):
        return
    record = load_record(storage_url, name, out)
    try:
        runs = runs_of(MlflowClient(uri), record)
    except (MlflowException, SQLAlchemyError, OSError):
        return  # which `harness.health.stores` finds
    faults = list(_of_study(record, [run for run in runs if run.data.tags.get("sam2lora.role") == "study"]))
    by_trial = runs_by_trial(runs)
    for trial in record.trials():
        faults += [f"trial {trial.number} {why}" for why in _of_trial(record, trial, by_trial[trial.number])]
    remedy = "--repair writes what is missing; delete a run that is one too many in MLflow"
    yield from (Problem("MLflow", _RULE, fault, remedy) for fault in faults)
    if not faults:
        yield Sound("MLflow", f"{count(len(by_trial), 'trial')} as in the record")


def runs_of(client: MlflowClient, record: Record) -> list[Run]:
    """All runs of a study, its own and those of its trials. Raises what MLflow raises."""
    experiment = client.get_experiment_by_name(record.attributes["question"]["search"])
    if experiment is None:
        return []
    return list(search_runs(client, experiment.experiment_id, of_study(record.name)))


def runs_by_trial(runs: Sequence[Run]) -> defaultdict[int, list[Run]]:
    """The runs of trials by their numbers."""
    by_trial: defaultdict[int, list[Run]] = defaultdict(list)
    for run in runs:
        if run.data.tags.get("sam2lora.role") == "trial":
            by_trial[int(run.data.tags["trial"])].append(run)
    return by_trial


def reopen_differing(client: MlflowClient, record: Record) -> list[int]:
    """Have the tracker write those trials again whose runs are not what the record says; returns their numbers.

    A run that holds another number than its trial is deleted, since MLflow changes none that it has. One of another
    key is left: on a shared server it may be of another record's study of this name. Raises what MLflow raises.
    """
    trials = {trial.number: trial for trial in record.trials()}
    runs = runs_of(client, record)
    numbers = []
    for run in runs:
        trial = trials.get(int(run.data.tags.get("trial", -1)))
        if WRITTEN in run.data.tags:
            client.delete_tag(run.info.run_id, WRITTEN)
        if trial is None or run.data.tags.get("key") != trial.key or not any(_differences(record, trial, run)):
            continue
        shown = run.data.metrics
        if any(shown.get(name, value) != value for name, value in final_metrics(trial, record).items()):
            client.delete_run(run.info.run_id)
        elif SEALED in run.data.tags:
            client.delete_tag(run.info.run_id, SEALED)
        numbers.append(trial.number)
    return sorted(numbers)


def _of_study(record: Record, runs: Sequence[Run]) -> Iterator[str]:
    if len(runs) != 1:
        yield f"the study has {count(len(runs), 'run')} instead of one"
    if any(run.info.status == "RUNNING" for run in runs) and not in_use(record.folder):
        yield "the study's run says RUNNING, and no process runs it"


def _of_trial(record: Record, trial: RecordedTrial, runs: Sequence[Run]) -> Iterator[str]:
    if trial.outcome is None:
        return
    if len(runs) != 1:
        yield f"has {count(len(runs), 'run')} instead of one"
    for run in runs:
        yield from _differences(record, trial, run)


def _differences(record: Record, trial: RecordedTrial, run: Run) -> Iterator[str]:
    """What a run says else than the record of its trial, a clause each; nothing of an open trial."""
    if trial.outcome is None:
        return
    status = KIND_OF[trial.outcome].run_status
    if run.info.status != status:
        yield f"is {run.info.status} and must be {status}"
    if SEALED not in run.data.tags:
        yield "is not complete"
    tags = {"key": trial.key, **final_tags(trial)}
    metrics = final_metrics(trial, record)
    shown = {**run.data.tags, **run.data.metrics}
    wrong = [name for name, value in {**tags, **metrics}.items() if shown.get(name) != value]
    if wrong:
        yield f"has another {abridged(wrong)}"
