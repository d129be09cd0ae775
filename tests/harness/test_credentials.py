"""A study whose databases have secrets in their addresses leaves none of them anywhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from harness import report, search
from sam2lora.credentials import STORAGE, TRACKING

from .test_search_command import ROOT, TINY

SECRETS = ("4815162342", "2342161508")


def holding(folder: Path, secret: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_a_study_leaves_no_secret_and_its_commands_run_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    storage, tracking = (
        f"sqlite:///{tmp_path / name}?timeout={secret}"
        for name, secret in zip(("record.db", "mlflow.db"), SECRETS, strict=True)
    )
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "tiny.py").write_text(TINY.replace("trials=4", "trials=1"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), TRACKING: tracking}
    typed = ["tiny", "--epochs", "1", "--no-references"]
    ended = subprocess.run(
        [sys.executable, "-m", "harness.search", *typed, "--storage", storage],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(STORAGE, storage)
    monkeypatch.setenv(TRACKING, tracking)
    text = (tmp_path / "runs/tiny/report/report.md").read_text()
    for command, main in (("search", search.main), ("report", report.main)):
        (shown,) = set(re.findall(rf"^python -m harness\.{command} .*--storage .*$", text, re.MULTILINE))
        assert f"sqlite:///{tmp_path}/record.db?timeout=***" in shlex.split(shown)
        more = ["--dry-run"] if command == "search" else []
        assert main([*shlex.split(shown)[3:], *more]) == 0
    assert report.main(["tiny"]) == 0, "the variable names the record"
    output = ended.stdout + ended.stderr + "".join(capsys.readouterr())
    for secret in SECRETS:
        assert secret not in output
        assert not holding(tmp_path, secret)


@pytest.mark.parametrize("variable", [STORAGE, None])
def test_no_error_shows_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    address = "postgresql+nothing://me:pa ss/word@localhost:9/record"
    option = [] if variable else ["--storage", address]
    if variable:
        monkeypatch.setenv(variable, address)
    monkeypatch.setattr("sys.argv", ["command", *option])
    assert report.main(["loss_weights", *option]) == 2
    assert search.main(["loss_weights", *option]) == 2
    with pytest.raises(SystemExit):
        search.main(["loss_weights", "--nothing", address])
    shown = "".join(capsys.readouterr())
    assert "postgresql+nothing://me:***@localhost:9/record" in shown
    assert "pa ss/word" not in shown
