"""The command as a person runs it: what it refuses, what it shows, and one real run that a second ablation draws on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient

from harness import ablate
from harness.record.table import completed_trials, read

ROOT = Path(__file__).parent.parent.parent
TINY = '''"""Does a tiny ablation run?"""
from harness.experiments.ablation import Ablation
from harness.experiments.replicates import replicates
from harness.designs import Levels, setting
from sam2lora.adapters import LoRA
from sam2lora.augments import Flips
from sam2lora.backbones import Nano
from sam2lora.config import TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.protocols import Transfer

BASE = TrialConfig(
    protocol=Transfer(
        sources=(Synthetic(hospital="alder", images=14, size=64),),
        targets=(Synthetic(hospital="cedar", images=4, size=64),),
    ),
    backbone=Nano(weights="random"),
    adapters=(LoRA(rank=2, alpha=4.0, encoder="none"),),
    augment=Flips(),
    image_size=64,
    epochs=1,
)
NORMS = (1.0, 2.0)
ABLATION = Ablation(
    BASE,
    Levels(("clip_norm",), {f"clip+{norm}": setting(clip_norm=norm) for norm in NORMS}, reference="clip+1.0"),
    replicates(3),
    primary="dice",
    smallest_of_interest=0.01,
)
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two ablations of its own, of which the second has one arm more."""
    (tmp_path / "ablations").mkdir()
    (tmp_path / "ablations" / "__init__.py").touch()
    (tmp_path / "ablations" / "tiny.py").write_text(TINY)
    (tmp_path / "ablations" / "wider.py").write_text(TINY.replace("(1.0, 2.0)", "(1.0, 2.0, 3.0)"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(project: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment |= {"SAM2LORA_CACHE": str(project / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "harness.ablate", *arguments]
    done = subprocess.run(command, cwd=project, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_an_ablation_runs_reports_and_lends_its_trials_to_another(project: Path) -> None:
    output = run(project, "tiny")
    assert "warning" not in output
    assert "Does a tiny ablation run?" in output
    assert "6 trials of 1 epoch, 0 done" in output
    assert (project / "runs/tiny/report").is_dir()
    seen_in_mlflow(project)
    run(project, "wider")
    storage = f"sqlite:///{project / 'runs/optuna.db'}"
    wider = read(storage, "wider", project / "runs")
    assert len(completed_trials(wider.trials)) == 9
    trained = wider.trials[wider.trials["copied_from"].isna()]
    assert set(trained["param/arm"]) == {"clip+3.0"}
    assert len(optuna.load_study(study_name="tiny", storage=storage).trials) == 6
    growing_is_a_look(project, storage)


def growing_is_a_look(project: Path, storage: str) -> None:
    """``tiny`` grows from three replicates to five; the same command makes a look that an interruption left out."""

    def recorded() -> optuna.Study:
        return optuna.load_study(study_name="tiny", storage=storage)

    assert [one["replicates"] for one in recorded().user_attrs["looks"]["done"]] == [3]
    said = run(project, "tiny", "--replicates", "5")
    assert "After 5 replicates: clip+2.0: " in said
    looks = recorded().user_attrs["looks"]
    assert (looks["schedule"], looks["errors"]) == ([3, 5], pytest.approx([0.04, 0.008]))
    assert [one["replicates"] for one in looks["done"]] == [3, 5]
    report = " ".join((project / "runs/tiny/report/report.md").read_text().split())
    assert "This is look 2 at the study, at 5 replicates (earlier looks: at 3)" in report
    assert "err in at most 5 % of studies, this one in 0.8 %" in report
    recorded().set_user_attr("looks", {**looks, "done": looks["done"][:1]})
    run(project, "tiny", "--replicates", "5")
    assert recorded().user_attrs["looks"] == looks
    assert len(recorded().trials) == 10


def seen_in_mlflow(project: Path) -> None:
    """Every cell of ``tiny`` is a run, below one that has the verdicts and the report."""
    client = MlflowClient(f"sqlite:///{project / 'runs/mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    (parent,) = [one for one in found if one.data.tags["sam2lora.role"] == "study"]
    cells = {(one.data.params["arm"], one.data.params["seed"]) for one in found if one is not parent}
    assert cells == {(f"clip+{norm}", str(seed)) for norm in (1.0, 2.0) for seed in range(3)}
    assert {one.data.tags["mlflow.source.name"] for one in found} == {"harness.ablate"}
    assert parent.info.status == "FINISHED"
    assert re.search("matter|undecided|helps on", parent.data.tags["verdict/clip plus 2.0"])
    assert "effect/clip plus 2.0/low" in parent.data.metrics
    assert "report/report.html" in {one.path for one in client.list_artifacts(parent.info.run_id, "report")}


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert ablate.main(list(arguments)) == 2
    text = " ".join(capsys.readouterr().err.split())
    assert "validation error" not in text, "pydantic's own words"
    return text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["loss_component"], "Did you mean 'loss_components'?"),
        (["loss_components", "--budget", "2h"], "add --until-decided"),
        (["loss_components", "--replicates", "2"], "needs 3 seeds or more, but its 2 replicates have 2"),
        (["loss_components", "--sources", "alder", "--targets", "alder"], "share alder"),
        (
            ["rank", "--backbone", "unet"],
            "error: Settings must be valid for a trial, but these are not: adapters.0 (lora): It needs the layers "
            "of a SAM 2, but the backbone is a U-Net: use Full(). a U-Net must be trained whole",
        ),
        (["loss_components", "--datasets", "alder"], "--protocol"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refused(capsys, *arguments)
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_shows_arms_differences_and_the_number_of_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = ["--dry-run", "--pack", "--replicates", "4", "--epochs", "2", "--tuned", "6", "--until-decided"]
    assert ablate.main(["optimizer_basics", *wanted]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "clipping clip_norm = 1.0" in shown
    assert "8 arms x 4 replicates (seed/fold 0/0, 1/1, 2/2, 3/3) = 32 trials of 2 epochs" in shown
    assert "clipping: mean of (clipping), (schedule+clipping), " in shown
    assert "6 trials of each arm that trains (8), over optimizer.lr" in shown
    assert "80 trials in all" in shown
    assert "looks after 4, 6, 9, 14, 20 replicates" in shown
    assert "8 of the 8 settings examined train alone, not in a pack: on a CPU" in shown
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("2h", 7200)])
def test_a_budget_is_a_time(text: str, seconds: float) -> None:
    assert ablate.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1h", "1.5h", "soon", "h"])
def test_a_budget_that_is_no_time_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ablate.main(["loss_components", "--until-decided", f"--budget={text}"])
    assert "must be a time such as 3600, 30m or 2h" in capsys.readouterr().err
