"""What a study's command says when the machine fails it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.execution.runner import exclusive
from sam2lora.errors import DiskError


def test_a_full_disk_is_told_with_the_room_in_both_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's temporary files are on another disk as often as not, and the system's error names none."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    plan: Any = SimpleNamespace(
        study="tiny", folder=tmp_path / "runs" / "tiny", storage=f"sqlite:///{tmp_path}/optuna.db"
    )
    said = r"runs/tiny \(\d+\.\d MiB free\) and temporary files into .*scratch \(no folder\).*No space left on device"
    with pytest.raises(DiskError, match=said), exclusive(plan):
        raise OSError(28, "No space left on device")
