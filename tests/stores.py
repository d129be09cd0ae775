"""Whether the three stores of a study say the same: the record, MLflow, and the files of its trials.

An oracle of its own: it reads Optuna's database, MLflow's API and the files, and nothing of ours but names of files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import optuna
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState

STATUS = {
    "completed": "FINISHED",
    "stopped": "FINISHED",
    "diverged": "FAILED",
    "out_of_memory": "FAILED",
    "infeasible": "FAILED",
    "crashed": "FAILED",
}


def stored(out: Path, study: str) -> list[FrozenTrial]:
    """The trials of a study in the record of the folder ``out``."""
    return optuna.load_study(storage=f"sqlite:///{out / 'optuna.db'}", study_name=study).trials


def stores_equal(out: Path, study: str, tracking: str | None = None) -> list[str]:
    """A line for each thing that a finished study left open, left twice, or that the stores tell differently.

    ``tracking``: MLflow's address; None: its file in ``out``.
    """
    trials = stored(out, study)
    client = MlflowClient(tracking or f"sqlite:///{out / 'mlflow.db'}")
    return [
        *_in_record(trials),
        *_in_mlflow(trials, client, study),
        *(line for trial in trials for line in _in_files(trial, out / study / "trials")),
        *(f"{path} is left" for path in (out / study).rglob("*") if path.name == "checkpoint.pt" or _is_draft(path)),
    ]


def _is_draft(path: Path) -> bool:
    return path.parent.parent.name == "trials" and path.name.startswith(".")


def _in_record(trials: list[FrozenTrial]) -> Iterator[str]:
    for trial in trials:
        if not trial.state.is_finished():
            yield f"trial {trial.number} is {trial.state.name}"
    trained = [trial for trial in trials if trial.state != TrialState.FAIL and "reused_from" not in trial.user_attrs]
    for key, times in Counter(trial.user_attrs["key"] for trial in trained).items():
        if times > 1:
            yield f"key {key} has {times} results"


def _in_mlflow(trials: list[FrozenTrial], client: MlflowClient, study: str) -> Iterator[str]:
    experiment = client.get_experiment_by_name(study)
    if experiment is None:
        yield f"MLflow has no experiment {study}"
        return
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    parents = [run for run in runs if run.data.tags["sam2lora.role"] == "study"]
    if [run.info.status for run in parents] != ["FINISHED"]:
        yield f"the study has these runs: {', '.join(run.info.status for run in parents) or 'none'}"
    by_number: dict[int, list[Run]] = {}
    for run in runs:
        if run not in parents:
            by_number.setdefault(int(run.data.tags["trial"]), []).append(run)
    ended = {trial.number: trial for trial in trials if "outcome" in trial.user_attrs}
    if by_number.keys() != ended.keys():
        yield f"trials {sorted(ended)} have outcomes, and trials {sorted(by_number)} have runs"
    for number, trial in ended.items():
        if len(by_number.get(number, [])) != 1:
            yield f"trial {number} has {len(by_number.get(number, []))} runs"
        for run in by_number.get(number, []):
            yield from _in_run(trial, run, client)


def _in_run(trial: FrozenTrial, run: Run, client: MlflowClient) -> Iterator[str]:
    kept, shown, number = trial.user_attrs, run.data, trial.number
    kind = kept["outcome"]["kind"]
    if run.info.status != STATUS[kind] or shown.tags["outcome"] != kind:
        yield f"trial {number} is {kind}, its run {shown.tags['outcome']} and {run.info.status}"
    if shown.tags.get("reference") != kept.get("reference"):
        yield f"trial {number} is the reference {kept.get('reference')}, its run {shown.tags.get('reference')}"
    curve = [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, "val/dice")]
    if curve != [(entry["epoch"], entry["score"]) for entry in kept["curve"]]:
        yield f"trial {number} has the curve {kept['curve']}, its run {curve}"
    scores = {f"test/{name}": score for name, score in kept.get("scores", {}).items()}
    scores |= {"score": trial.value} if kind == "completed" else {}
    differing = {name for name, score in scores.items() if shown.metrics.get(name) != score}
    if differing or ("score" in shown.metrics) != (kind == "completed"):
        yield f"trial {number} and its run differ in {sorted(differing) or 'score'}"
    if not run.inputs.dataset_inputs or not shown.params:
        yield f"the run of trial {number} does not say what it ran"


def _in_files(trial: FrozenTrial, folder: Path) -> Iterator[str]:
    kept = trial.user_attrs
    if kept.get("outcome", {}).get("kind") != "completed":
        return
    folder /= kept["key"]
    names = ("result.json", "images.parquet", "adapter.safetensors", "predictions.png")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        yield f"trial {trial.number} has no {', '.join(missing)}"
        return
    result = json.loads((folder / "result.json").read_text())
    if any(result[name] != kept[name] for name in ("scores", "curve", "n_images")):
        yield f"trial {trial.number} and its result.json differ"
    means = pd.read_parquet(folder / "images.parquet").groupby("dataset")["dice"].mean()
    if any(abs(kept["scores"][f"{name}/dice"] - mean) > 1e-12 for name, mean in means.items()):
        yield f"trial {trial.number} and its image rows differ"
