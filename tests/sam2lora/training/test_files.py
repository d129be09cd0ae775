"""Files of a trial appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import SafetensorError

from sam2lora.errors import DiskError
from sam2lora.files import write_atomically


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


def test_a_name_as_long_as_the_system_lets_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("ü" * 125 + ".png")
    write_atomically(path, lambda draft: draft.write_bytes(b"whole"))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
