"""A study whose record is lost: refused, rebuilt from its files, and continued without training anything."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import test_ablate_command, test_search_command

ROOT = Path(__file__).parents[2]


def run(project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    environment |= {"SAM2LORA_CACHE": str(project / "cache"), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=project, env=environment, text=True, capture_output=True, check=False
    )


def files(project: Path) -> dict[str, float]:
    """When each file of a trial, and of the report, was written last; the texts of the report."""
    return {str(path): path.stat().st_mtime for path in (project / "runs/tiny/trials").rglob("*") if path.is_file()}


def report(project: Path) -> dict[str, str]:
    folder = project / "runs/tiny/report"
    return {path.name: path.read_text() for path in folder.iterdir() if path.suffix in (".md", ".csv", ".tex")}


@pytest.mark.parametrize(
    ("command", "folder", "text"),
    [
        ("harness.search", "search_spaces", test_search_command.TINY.replace("grace=2", "grace=1")),
        ("harness.ablate", "ablations", test_ablate_command.TINY),
    ],
)
@pytest.mark.parametrize("stores", [("optuna.db",), ("optuna.db", "mlflow.db")], ids=["record", "record and MLflow"])
def test_a_study_goes_on_without_its_record(
    command: str, folder: str, text: str, stores: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "tiny.py").write_text(text)
    first = run(tmp_path, command, "tiny")
    assert first.returncode == 0, first.stderr
    trained, reported = files(tmp_path), report(tmp_path)
    for store in stores:
        for path in (tmp_path / "runs").glob(f"{store}*"):
            path.unlink()
    refused = run(tmp_path, command, "tiny")
    assert refused.returncode == 2
    assert "python -m harness.doctor tiny --repair" in refused.stderr
    assert not (tmp_path / "runs/optuna.db").exists()
    assert run(tmp_path, "harness.doctor", "tiny").returncode == 1
    repaired = run(tmp_path, "harness.doctor", "tiny", "--repair")
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    assert "not restored" not in repaired.stderr
    again = run(tmp_path, command, "tiny")
    assert again.returncode == 0, again.stderr
    assert files(tmp_path) == trained, "nothing is trained again"
    assert report(tmp_path) == reported
