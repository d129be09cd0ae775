"""Files of a trial appear whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from sam2lora.errors import DiskError
from sam2lora.files import remove_leavings, write_atomically
from sam2lora.models.feature_cache import Store


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file: No space left on device"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["the system", "torch.save", "safetensors"],
)
def test_whoever_meets_a_full_disk_says_so_and_leaves_the_file_as_it_was(error: Exception, tmp_path: Path) -> None:
    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    path = tmp_path / "adapter.safetensors"
    path.write_bytes(b"whole")
    with pytest.raises(DiskError, match=r"cannot be .*No space left.*Free some space or name another folder"):
        write_atomically(path, full)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {path.name: b"whole"}


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_file_has_the_mode_of_any_new_file(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "adapter", lambda path: save_file({"a": torch.zeros(1)}, path))
        write_atomically(tmp_path / "note", lambda path: path.write_text("whole"))
        Store(tmp_path, 1).write("f" * 64, {"00": torch.zeros(1)})
    finally:
        os.umask(before)
    files = [tmp_path / "adapter", tmp_path / "note", *tmp_path.glob("ff/*.safetensors")]
    assert [file.stat().st_mode & 0o777 for file in files] == [mode] * 3


def test_a_name_as_long_as_the_system_lets_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 125 + ".png")
    write_atomically(path, lambda draft: draft.write_bytes(b"whole"))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


KILLED = """
import os, pathlib, signal, sys
from sam2lora.files import remove_leavings, write_atomically
def half(draft):
    draft.write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
write_atomically(pathlib.Path(sys.argv[1]), half)
"""


def test_what_killed_processes_leave_is_removed_from_the_trials_of_a_study(tmp_path: Path) -> None:
    trial = tmp_path / "trials" / "8bee7d1458541d95"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(trial / "images.parquet")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(trial.iterdir())) == 1, "the draft"
    for name in ("checkpoint.pt", "checkpoint.pt.damaged", "result.json"):
        (trial / name).touch()
    remove_leavings(tmp_path)
    assert {path.name for path in trial.iterdir()} == {"checkpoint.pt.damaged", "result.json"}
