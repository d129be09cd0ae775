"""The study of a colleague, in a folder that can be read and not be written."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import safetensors.torch
import torch

from harness.record import optuna_writer
from harness.record.outcome import Completed
from harness.record.study import Record
from sam2lora.choice import to_json
from sam2lora.config import Replicate, TrialConfig
from sam2lora.files import ADAPTER

ROOT = Path(__file__).parents[2]

READ = """
import sys
from pathlib import Path
from harness import report
from sam2lora import trained

out, to = Path(sys.argv[1]), sys.argv[2]
print(trained.find("study", out).file)
assert report.main(["study", "--out", str(out), "--to", to]) == 0
assert report.main(["study", "--out", str(out)]) == 2
"""


def end_a_trial(record: Record, tiny: TrialConfig) -> Path:
    trial = record.study.ask()
    optuna_writer.begin(trial, "a", to_json(tiny), to_json(Replicate()), oracle_prompt=False)
    outcome = Completed(1, 0.5, {"cedar/dice": 0.4}, {"cedar": 4}, {"cedar": "target"}, {"alder/dice": 0.5})
    optuna_writer.tell(record, trial, outcome, [{"epoch": 1, "score": 0.5}], {})
    adapter = record.files("a") / ADAPTER
    adapter.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"config": to_json(tiny), "replicate": to_json(Replicate())}
    safetensors.torch.save_file({"A": torch.zeros(1)}, adapter, metadata=metadata)
    return adapter


@pytest.fixture
def limited() -> list[str]:
    """The beginning of a command that root's right to write anywhere does not help."""
    if os.geteuid():
        return []
    words = ["setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override"]
    if shutil.which("setpriv") is None or subprocess.run([*words, "true"], check=False).returncode:
        pytest.skip("root may write anywhere, and no setpriv takes this right away")
    return words


def close(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o555 if path.is_dir() else 0o444)


def unlock(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.fixture
def study(record: Record, tiny: TrialConfig, tmp_path: Path) -> Iterator[Path]:
    """The adapter of a study that lies in a folder without write access."""
    adapter = end_a_trial(record, tiny)
    record.study._storage.remove_session()
    record.study._storage._backend.engine.dispose()
    close(tmp_path)
    yield adapter
    unlock(tmp_path)


@pytest.mark.parametrize("running", [False, True], ids=["ended", "running"])
def test_it_is_reported_elsewhere_and_predicted_with(
    study: Path, running: bool, limited: list[str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("mine")
    with closing(sqlite3.connect(tmp_path / "optuna.db")) as writer:
        if running:
            unlock(tmp_path)
            writer.execute("UPDATE studies SET study_name = study_name")
            writer.commit()
            close(tmp_path)
        before = sorted(tmp_path.rglob("*"))
        command = [*limited, sys.executable, "-c", READ, str(tmp_path), str(elsewhere)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert sorted(tmp_path.rglob("*")) == before, "nothing was written"
    assert done.stdout.splitlines()[0] == str(study)
    assert (elsewhere / "study" / "report" / "report.html").is_file()
    assert "python -m harness.report NAME --to FOLDER" in done.stderr
