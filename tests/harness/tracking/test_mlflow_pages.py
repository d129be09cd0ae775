"""MLflow's pages of a study: the saved view in a real browser, and what stands in the way of the pages."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

from harness import ui
from harness.errors import TrackingError
from harness.tracking.mlflow_database import create
from harness.tracking.mlflow_pages import experiment_of, served
from harness.tracking.mlflow_views import link, saved_view, view_tag

STUDY = "it's (a) study"
QUESTION = {"search": "lora", "targets": ["cedar", "fir"]}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """MLflow's database with a study of three trials, of which the second is the best and the third was stopped."""
    url = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    create(url)
    client = MlflowClient(url)
    experiment = client.create_experiment("lora")
    client.set_experiment_tag(experiment, view_tag(STUDY), saved_view(STUDY, QUESTION, ["rank"]))
    tags = {"sam2lora.study": STUDY}
    client.create_run(experiment, tags={**tags, "sam2lora.role": "study"}, run_name="the study")
    for number, score in enumerate((0.5, 0.75, None)):
        run = client.create_run(experiment, tags={**tags, "outcome": "stopped"}, run_name=f"#{number} rank {number}")
        client.log_param(run.info.run_id, "rank", 40 + number)
        client.log_metric(run.info.run_id, "test/cedar/dice", 0.123)
        if score is not None:
            client.log_metric(run.info.run_id, "score", score)
    client.create_run(experiment, tags={"sam2lora.study": "another"}, run_name="of another study")
    return url


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")
def test_the_link_shows_the_trials_with_their_scores_the_best_first(address: str, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with served(address, port) as base:
        page = link(base, experiment_of(address, STUDY), STUDY)
        browser = [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--window-size=1800,900",
        ]
        quiet = [
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-quic",
            "--disable-dev-shm-usage",
        ]
        dump = [f"--user-data-dir={tmp_path}", "--virtual-time-budget=60000", "--dump-dom", page]
        shown = subprocess.run(
            [*browser, *quiet, *dump], capture_output=True, text=True, timeout=300, check=True
        ).stdout
    names = re.findall(r">(#\d rank \d)<", shown)
    assert names[:3] == ["#1 rank 1", "#0 rank 0", "#2 rank 2"]
    for text in ("score", "rank", "test/cedar/dice", "0.75", "41", "0.123", "stopped"):
        assert f">{text}<" in shown, text
    assert "of another study" not in shown


def test_a_view_of_an_ablation_is_sorted_by_arm() -> None:
    question = {**QUESTION, "ablation": {"primary": "test/auc"}}
    state = json.loads(json.loads(saved_view("loss", question, []))["state"])
    assert (state["orderByKey"], state["orderByAsc"]) == ("params.`arm`", True)
    assert state["selectedColumns"] == [
        "tags.`outcome`", "params.`arm`", "params.`seed`", "params.`fold`", "metrics.`unseen/auc`",
        "metrics.`test/cedar/auc`", "metrics.`test/fir/auc`",
    ]  # fmt: skip


def test_what_cannot_be_shown_is_named(address: str, tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match=r"must exist, but there is none at .*--out"):
        experiment_of(f"sqlite:///{tmp_path / 'mlflow.db'}", STUDY)
    assert not (tmp_path / "mlflow.db").exists()
    with pytest.raises(TrackingError, match="must hold the study 'lora', but has no run of it"):
        experiment_of(address, "lora")
    (tmp_path / "broken.db").write_bytes(b"no database at all")
    with pytest.raises(TrackingError, match="must be readable"):
        experiment_of(f"sqlite:///{tmp_path / 'broken.db'}", STUDY)


def test_a_port_in_use_is_named(address: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(TrackingError, match="choose another with --port"), served(address, taken.getsockname()[1]):
            pass


def test_the_link_is_printed_whole_but_for_a_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ui, "resolve", lambda name, storage: name)
    monkeypatch.setattr("harness.tracking.mlflow_pages.experiment_of", lambda address, study: "7")
    assert ui.main(["lora", "--mlflow", "https://me:secret@mlflow.example", "--no-browser"]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed == f"MLflow: {link('https://me:***@mlflow.example', '7', 'lora')}"
    assert "viewStateShareKey=***" not in printed


def test_the_command_says_where_no_study_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ui.main(["--out", str(tmp_path)]) == 2
    assert "What can be run:" in capsys.readouterr().err
