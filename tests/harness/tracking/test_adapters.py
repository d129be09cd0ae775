"""The adapter of a study is its best completed trial's by validation, and that of a run is the run's."""

from __future__ import annotations

import tempfile
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from mlflow import MlflowClient

from harness.record import optuna_writer
from harness.record.outcome import Completed, Stopped
from harness.record.study import Record
from sam2lora import trained
from sam2lora.choice import to_json
from sam2lora.config import Replicate, TrialConfig
from sam2lora.errors import AdapterError
from sam2lora.files import ADAPTER


def saved(folder: Path, config: TrialConfig, seed: int = 0) -> Path:
    folder.mkdir(parents=True)
    metadata = {"config": to_json(config), "replicate": to_json(Replicate(seed=seed))}
    safetensors.torch.save_file({"A": torch.zeros(1)}, folder / ADAPTER, metadata=metadata)
    return folder / ADAPTER


@pytest.fixture
def study(record: Record, tiny: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    """Trial 0 is stopped while it leads, 1 validates best, 2 tests best."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for key, score, test in (("a", 0.9, None), ("b", 0.8, 0.1), ("c", 0.7, 0.99)):
        trial = record.study.ask()
        optuna_writer.begin(trial, key, to_json(tiny), to_json(Replicate()), oracle_prompt=False)
        curve: list[dict[str, Any]] = [{"epoch": 1, "score": score}]
        if test is None:
            optuna_writer.tell(record, trial, Stopped(1, score), curve, {})
            continue
        outcome = Completed(1, score, {"cedar/dice": test}, {"cedar": 4}, {"cedar": "target"}, {"alder/dice": score})
        optuna_writer.tell(record, trial, outcome, curve, {})
        saved(record.files(key), tiny)
    return record


def test_the_best_trial_by_validation_is_taken_by_name_and_by_folder(study: Record, tmp_path: Path) -> None:
    best = study.files("b") / ADAPTER
    assert trained.find("study", tmp_path).file == best
    assert trained.find("loss_weights", tmp_path).file == best, "the search that the study answers"
    assert trained.find(str(study.folder)).file == best
    assert trained.find(str(study.files("c"))).file == study.files("c") / ADAPTER


def test_a_trial_that_was_told_the_answer_is_taken_only_where_there_is_no_other(
    record: Record, tiny: TrialConfig, tmp_path: Path
) -> None:
    for key, score, oracle in (("a", 0.9, True), ("b", 0.4, False)):
        trial = record.study.ask()
        optuna_writer.begin(trial, key, to_json(tiny), to_json(Replicate()), oracle_prompt=oracle)
        optuna_writer.tell(record, trial, Completed(1, score, {}, {}, {}, {}), [{"epoch": 1, "score": score}], {})
        saved(record.files(key), tiny)
        assert trained.find("study", tmp_path).file == record.files(key) / ADAPTER


def test_an_unknown_study_is_refused_with_the_nearest_name(study: Record, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="Did you mean 'study'"):
        trained.find("studi", tmp_path)


def test_a_best_trial_without_its_file_is_refused(study: Record, tmp_path: Path) -> None:
    (study.files("b") / ADAPTER).unlink()
    with pytest.raises(AdapterError, match="number 1, must have left an adapter"):
        trained.find("study", tmp_path)


def test_a_run_gives_its_artifact_and_a_study_run_its_best_trials(
    tiny: TrialConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.create_experiment("search", artifact_location=(tmp_path / "artifacts").as_uri())

    def run(score: float | None, **tags: str) -> str:
        named = {f"sam2lora.{name}" if name in ("study", "role") else name: value for name, value in tags.items()}
        made = str(client.create_run(experiment, tags=named).info.run_id)
        if score is not None:
            client.log_metric(made, "val/dice", score)
        return made

    parent = run(None, study="s", role="study")
    runs = [
        run(score, study="s", role="trial", trial=str(n), outcome="completed", oracle_prompt=told)
        for n, (score, told) in enumerate(((0.2, "no"), (0.6, "no"), (0.95, "yes")))
    ]
    for n, one in enumerate(runs):
        client.log_artifact(one, str(saved(tmp_path / f"trial{n}", tiny, seed=n)))
    stopped = run(0.9, study="s", role="trial", trial="3", outcome="stopped")
    reused = run(0.2, study="s", role="trial", trial="4", outcome="completed", reused_from="0")

    (tmp_path / "copies").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "copies"))
    for where, source in ((runs[0], 0), (f"runs:/{runs[1]}", 1), (parent, 1), (reused, 0)):
        assert trained.find(where, tmp_path).replicate.seed == source
        assert not list((tmp_path / "copies").iterdir())
    with pytest.raises(AdapterError, match="its outcome is stopped"):
        trained.find(stopped, tmp_path)
    with pytest.raises(AdapterError, match="is not"):
        trained.find("0" * 32, tmp_path)
    with pytest.raises(AdapterError, match="set MLFLOW_TRACKING_URI"):
        trained.find(runs[0], tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            "harness.tracking.gone:locate",
            r"looked up by harness.tracking.gone:locate, but it cannot be imported \(No mod",
        ),
        ("harness.tracking.adapters:gone", "has no attribute 'gone'"),
        (None, "but none offers 'sam2lora.adapters', and study is neither a file nor a folder"),
    ],
)
def test_names_need_a_package_that_looks_them_up(
    value: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [] if value is None else [EntryPoint("harness", value, trained.LOOKUPS)]
    monkeypatch.setattr(trained, "entry_points", lambda *, group: entries if group == trained.LOOKUPS else [])
    with pytest.raises(AdapterError, match=message):
        trained.find("study", tmp_path)
