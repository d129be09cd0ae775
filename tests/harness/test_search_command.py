"""The command itself, as a person runs it: its own process, a real Ray, a real record, a real MLflow."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import optuna
import pandas as pd
import pytest
from filelock import FileLock
from optuna.trial import FrozenTrial, TrialState

from harness import search
from sam2lora.cli.options import INTERRUPTED

from ..stores import stores_equal

ROOT = Path(__file__).parent.parent.parent
TINY = '''"""Does a tiny search run?"""
import optuna
from harness.experiments.search import Search
from harness.schedulers import ASHA
from sam2lora.adapters import LoRA
from sam2lora.augments import Flips
from sam2lora.backbones import Nano
from sam2lora.config import TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.optimizers import AdamW
from sam2lora.protocols import Transfer

def space(trial: optuna.Trial) -> TrialConfig:
    return TrialConfig(
        protocol=Transfer(
            sources=(Synthetic(hospital="alder", images=14, size=64),),
            targets=(Synthetic(hospital="cedar", images=4, size=64),),
        ),
        backbone=Nano(weights="random"),
        adapters=(LoRA(rank=trial.suggest_int("rank", 1, 4), alpha=4.0),),
        optimizer=AdamW(lr=trial.suggest_float("lr", 1e-3, 1e-1, log=True)),
        augment=Flips(),
        image_size=64,
        epochs=6,
    )

SEARCH = Search(space, trials=4, scheduler=ASHA(grace=2))
'''


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a search space of its own."""
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "tiny.py").write_text(TINY)
    return tmp_path


@contextmanager
def started(project: Path, cache: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment |= {"SAM2LORA_CACHE": str(cache), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "harness.search", "tiny", *arguments]
    process = subprocess.Popen(
        command,
        cwd=project,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def run(project: Path, cache: Path, *arguments: str) -> tuple[int, str]:
    with started(project, cache, *arguments) as process:
        output, _ = process.communicate()
        return process.returncode, output


def trials(project: Path) -> list[FrozenTrial]:
    return optuna.load_study(storage=f"sqlite:///{project / 'runs/optuna.db'}", study_name="tiny").trials


def wait_until_a_trial_advanced(project: Path, process: subprocess.Popen[str]) -> None:
    """Look at the folder that the other process writes until an open trial has an epoch behind it."""
    while not list((project / "runs/tiny/trials").glob("*/checkpoint.pt")):
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.1)
            pytest.fail(f"the search ended before it could be interrupted:\n{process.communicate()[0]}")


def check_consistent(project: Path, count: int) -> None:
    """Every trial has exactly one ending, the same in record, MLflow and files, and nothing is left open.

    Beside the ``count`` trials of the search there is one of each reference.
    """
    ended = [trial for trial in trials(project) if trial.state != TrialState.FAIL]
    beside = [trial.user_attrs["reference"] for trial in ended if "reference" in trial.user_attrs]
    assert sorted(beside) == ["defaults", "frozen"]
    assert len(ended) == count + len(beside)
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in ended)
    assert stores_equal(project / "runs", "tiny") == []


def test_a_search_runs_reports_and_goes_on(project: Path, cache: Path) -> None:
    status, output = run(project, cache)
    assert status == 0, output
    check_consistent(project, 4)
    assert "Does a tiny search run?" in output
    assert not list((project / "runs").rglob("checkpoint.pt")), "what has ended needs no checkpoint"
    report = project / "runs/tiny/report/report.md"
    assert "cedar" in report.read_text()
    assert "python -m harness.search tiny" in report.read_text(), "a report says how to continue"
    gained = report.read_text().partition("## What tuning gained")[2].partition("\n## ")[0]
    for reference in ("the declared defaults", "the frozen model"):
        assert f"| {reference} | validation |" in gained
        assert f"| {reference} | cedar (target) |" in gained
    assert "In validation the best trial reaches " in " ".join(output.split())
    assert re.search(r"reach \d\.\d+ in validation \(\d images, \d patients?\)", " ".join(output.split()))
    before = trials(project)
    status, output = run(project, cache)
    assert status == 0, output
    assert [trial.number for trial in trials(project)] == [trial.number for trial in before], "nothing was left to do"
    status, output = run(project, cache, "--trials", "6", "--probe", "3")
    assert status == 0, output
    check_consistent(project, 9)
    probe = [trial for trial in trials(project) if "probe" in trial.user_attrs]
    assert [trial.number for trial in probe] == [8, 9, 10], "the probe comes after the search and its references"
    assert {trial.user_attrs["outcome"]["kind"] for trial in probe} <= {"completed", "diverged"}, "nobody stops it"


def test_every_model_of_a_protocol_is_a_study_and_all_of_them_end_in_one_summary(project: Path, cache: Path) -> None:
    sets = "alder:images=14:size=64,cedar:images=14:size=64"
    asked = ("--protocol", "leave_one_dataset_out", "--datasets", sets, "--trials", "1", "--epochs", "1")
    status, output = run(project, cache, *asked)
    assert status == 0, output
    names = optuna.get_all_study_names(storage=f"sqlite:///{project / 'runs/optuna.db'}")
    assert sorted(names) == ["tiny/held_out=alder", "tiny/held_out=cedar"]
    frame = pd.read_csv(project / "runs/tiny/summary.csv")
    assert list(zip(frame["study"], frame["dataset"], frame["role"], strict=True)) == [
        ("tiny/held_out=alder", "alder", "target"),
        ("tiny/held_out=cedar", "cedar", "target"),
    ]
    assert ((frame["low"] <= frame["mean"]) & (frame["mean"] <= frame["high"])).all()
    for name in names:
        study = optuna.load_study(storage=f"sqlite:///{project / 'runs/optuna.db'}", study_name=name)
        assert study.user_attrs["question"]["protocol"]["held_out"] == name.partition("=")[2]
        assert study.trials[0].value == frame.set_index("study").loc[name, "validation"]
        assert (project / "runs" / name / "report/report.md").is_file()
    assert "a mean over the lines" in " ".join((project / "runs/tiny/summary.md").read_text().split())
    before = (project / "runs/tiny/summary.csv").read_bytes()
    status, output = run(project, cache, *asked)
    assert status == 0, output
    assert (project / "runs/tiny/summary.csv").read_bytes() == before, "nothing was left to do"


def test_a_search_killed_in_the_middle_goes_on_without_loss_or_double(project: Path, cache: Path) -> None:
    with started(project, cache) as process:
        wait_until_a_trial_advanced(project, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    orphans = [trial.number for trial in trials(project) if trial.state == TrialState.RUNNING]
    assert orphans
    status, output = run(project, cache)
    assert status == 0, output
    check_consistent(project, 4)
    assert all(trials(project)[number].state != TrialState.RUNNING for number in orphans)


def test_trials_that_pack_share_engines_until_they_are_told_not_to(project: Path, cache: Path) -> None:
    file = project / "search_spaces" / "tiny.py"
    encoder = "encoder='none' if trial.suggest_categorical('alone', (True, False)) else 'qkv', "
    file.write_text(TINY.replace("LoRA(", f"LoRA({encoder}").replace("epochs=6", "epochs=4"))
    with started(project, cache, "--trials", "6", "--pack") as process:
        wait_until_a_trial_advanced(project, process)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
    assert process.returncode == INTERRUPTED, output
    assert "one CPU core and one engine for every 4" in " ".join(output.split())
    assert re.search(
        r"\d+ of the 66 settings examined train alone, not in a pack: on a CPU a pack gains nothing",
        output,
    )
    status, output = run(project, cache, "--trials", "6", "--no-pack")
    assert status == 0, output
    assert "one CPU core each" in " ".join(output.split())
    check_consistent(project, 6)
    status, output = run(project, cache, "--trials", "8", "--pack")
    assert status == 0, output
    check_consistent(project, 8)


def test_ctrl_c_stops_cleanly_and_says_how_to_continue(project: Path, cache: Path) -> None:
    with started(project, cache) as process:
        wait_until_a_trial_advanced(project, process)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
    assert process.returncode == INTERRUPTED, output
    assert "Run the same command again to continue" in output
    assert "Traceback" not in output
    status, output = run(project, cache)
    assert status == 0, output
    check_consistent(project, 4)


def test_sigterm_to_all_processes_of_a_job_stops_like_ctrl_c(project: Path, cache: Path) -> None:
    """As ``timeout`` and Slurm send it: to Ray's processes as well."""
    with started(project, cache) as process:
        wait_until_a_trial_advanced(project, process)
        os.killpg(process.pid, signal.SIGTERM)
        output, _ = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, output
    assert output.rstrip().endswith("Run the same command again to continue from the last epoch of every trial.")
    assert "SIGTERM" not in output, "Ray's stack trace"
    assert "Traceback" not in output
    status, output = run(project, cache)
    assert status == 0, output
    check_consistent(project, 4)


@pytest.fixture
def quick(project: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the command in this process, in a folder of its own."""
    monkeypatch.chdir(project)
    monkeypatch.setenv("SAM2LORA_CACHE", str(cache))
    monkeypatch.setenv("SAM2LORA_CHECKPOINTS", str(project / "checkpoints"))
    monkeypatch.setenv("SAM2LORA_CHECKPOINTS_URL", "http://127.0.0.1:9")  # nobody listens
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return project


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert search.main(["loss_weights", *arguments]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert "Traceback" not in text
    return " ".join(text.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sources", "drive,stare"], "--data"),
        (["--data", "nowhere", "--sources", "drive"], "nowhere"),
        (["--sources", "drvie", "--data", "."], "drive"),
        (["--sources", "alder", "--targets", "alder"], "share alder"),
        (["--sources", "alder,alder"], "named twice"),
        (["--datasets", "alder,birch"], "but --datasets was given: leave it out, or choose the protocol that takes it"),
        (["--protocol", "few_shot", "--sources", "alder", "--targets", "birch"], "but --shots is missing"),
        (["--protocol", "leave_one_dataset_out", "--datasets", "drive,stare,rite"], "share drive"),
        (["--sources", "alder:size=wide"], "size of alder must be"),
        (["--sources", "idrid", "--data", ".", "--structure", "cup"], "'idrid' holds disc"),
        (["--backbone", "tiny"], "pass it with --checkpoint"),
        (["--backbone", "unet:vgg"], "unet:ENCODER must name one of resnet18"),
        (["--backbone", "unet", "--checkpoint", "nowhere.pt"], "must be a file, but nowhere.pt is not"),
        (["--backbone", "unet", "--image-size", "80"], "multiple of 32 from 64 on"),
        (["--backbone", "tiny", "--checkpoint", "nowhere.pt"], "must be a file, but nowhere.pt is not"),
        (["--backbone", "medium"], "must be one of nano, tiny, small, base+, large"),
        (["--checkpoint", "nowhere.pt"], "nano comes with its weights"),
        (["--gpus-per-trial", "99"], "--gpus-per-trial must be"),
        (["--storage", "sqlite:////proc/optuna.db"], "must be a database"),
        (["--storage", "sqlite:///nope/x.db"], "must be in a folder that exists, but nope of sqlite:///nope/x.db"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(
    quick: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert said in refused(capsys, *arguments)
    assert not (quick / "runs/loss_weights/trials").exists()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--seed", "-1", "must be a whole number of 0 or more, but is '-1'"),
        ("--gpus-per-trial", "nan", "must be a number of 0 or more, such as 0.125 or 1, but is 'nan'"),
        ("--gpus-per-trial", "-1", "but is '-1'"),
        ("--gpus-per-trial", "half", "but is 'half'"),
        ("--image-size", "17", "must be a multiple of 16 from 32 on, but is '17'"),
        ("--image-size", "16", "must be a multiple of 16 from 32 on, but is '16'"),
        ("--image-size", "100", "must be a multiple of 16 from 32 on, but is '100'"),
        ("--study", "o'brien", "must begin with a letter or a digit and continue with these"),
        ("--study", "../escape", "but is '../escape'"),
        ("--study", "", "but is ''"),
    ],
)
def test_values_that_no_run_could_have_are_refused_by_the_command_line(
    capsys: pytest.CaptureFixture[str], option: str, value: str, said: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        search.main(["loss_weights", f"{option}={value}"])
    assert stop.value.code == 2
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("option", ["--epochs", "--trials"])
@pytest.mark.parametrize("value", ["0", "-3", "many"])
def test_counts_are_positive(capsys: pytest.CaptureFixture[str], option: str, value: str) -> None:
    with pytest.raises(SystemExit) as stop:
        search.main(["loss_weights", f"{option}={value}"])
    assert stop.value.code == 2
    assert f"must be a whole number of 1 or more, but is '{value}'" in " ".join(capsys.readouterr().err.split())


def test_a_dry_run_shows_parameters_trials_and_what_trains_alone(
    quick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search.main(["lora", "--dry-run", "--pack", "--trials", "7", "--epochs", "2", "--probe", "3"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "blocks all, global, last 2" in shown
    assert "rank 2 to 64, logarithmic" in shown
    assert "7 trials of 2 epochs; sampler tpe, scheduler asha; in addition 3 of a probe and 2 references" in shown
    assert "settings examined train alone, not in a pack: nothing is trained." in shown
    assert not (quick / "runs").exists()


def test_an_unknown_search_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert search.main(["loss_weigths"]) == 2
    assert "Did you mean 'loss_weights'?" in " ".join(capsys.readouterr().err.split())


def test_a_study_is_run_by_one_process_at_a_time(quick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (quick / "runs/loss_weights").mkdir(parents=True)
    with FileLock(quick / "runs/loss_weights/.lock"):
        assert "in use by another" in refused(capsys)


def test_a_checkpoint_of_another_size_is_refused(quick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    torch.save({"model": {"image_encoder.trunk.pos_embed": torch.zeros(1, 96, 7, 7)}}, quick / "tiny.pt")
    text = refused(capsys, "--backbone", "small", "--checkpoint", "tiny.pt")
    assert "missing" in text


def test_help_names_every_option_and_search(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        search.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    question = "sources targets structure backbone checkpoint epochs image-size sampler scheduler seed"
    run = "data trials study gpus-per-trial out storage"
    options = f"{question} {run}"
    assert all(f"--{option}" in text for option in options.split())
    assert json.dumps("loss_weights").strip('"') in text
