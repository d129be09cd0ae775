"""A disk runs full under the results, the cache of images, or Ray's temporary files."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from .conftest import Fault
from .study import Study


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"needs the right to mount: {done.stderr.strip()}")


@contextmanager
def disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of so many bytes at ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all that is free in the file system of ``folder``."""
    filler = folder / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))
    return filler


def run_full(study: Study, folder: Path) -> tuple[int, str]:
    """The end of a command under which ``folder`` ran full after two epochs; then there is room again."""
    with study.started() as running:
        assert running.wait_for(lambda: len(study.trained()) >= 2), running.output()
        filler = fill(folder)
        ended = running.end()
    filler.unlink()
    return ended


def test_the_disk_of_the_results_is_full(fault: Fault, tmp_path: Path) -> None:
    with disk(tmp_path / "study" / "runs", "64m"), fault("disk of the run folder full") as study:
        status, output = run_full(study, study.out)
        assert status == 2, output
        assert "Traceback" not in output
        study.finish()


def test_the_disk_of_the_cache_is_full(fault: Fault, tmp_path: Path) -> None:
    with (
        disk(tmp_path / "cache", "60k") as cache,
        fault("disk of the cache full", cache=cache) as study,
    ):
        status, output = study.run()
        assert status == 2, output
        assert "Traceback" not in output
        mount("-o", "remount,size=64m", str(cache))
        study.finish()


def test_the_disk_of_ray_is_full(fault: Fault) -> None:
    with tempfile.TemporaryDirectory(prefix="faults") as short, disk(Path(short), "16m") as folder:  # sockets lie there
        environment = {"RAY_TMPDIR": short, "TMPDIR": short}
        with fault("disk of Ray's temporary files full", environment=environment) as study:
            status, output = run_full(study, folder)
            assert "Traceback" not in output
            assert status in (0, 2), output
            study.finish()
