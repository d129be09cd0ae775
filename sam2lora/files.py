"""Names of the files that a trial leaves, how a file is written, and how processes take turns at one."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock
from safetensors import SafetensorError

from sam2lora.errors import DiskError

CHECKPOINT: Final = "checkpoint.pt"
"""Where an unfinished trial stands, as ``sam2lora.training.checkpoint.save`` writes it."""
RESULT: Final = "result.json"
"""Means of the test scores, the images behind them and those that a mean leaves out as undefined, the threshold that
was used (null if nothing was judged), the training curve, and the sha256 of every other file. Written last: it seals
the folder."""
IMAGES: Final = "images.parquet"
"""One row per test image."""
ADAPTER: Final = "adapter.safetensors"
"""The trained tensors; the metadata hold ``config`` and ``replicate`` as canonical JSON, and the ``threshold``, a
probability, that the test images were judged with, and a ``checksum``."""
PREDICTIONS: Final = "predictions.png"
"""The worst, the median and the best test image of every data set, each with its truth, probability and errors."""

TRIALS: Final = "trials"
"""The folder in a study's folder that holds those of its trials."""

_DRAFTS = ".????????.[0-9]*"
"""What `write_atomically` calls a file that it has not finished, within a folder."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` on a temporary neighbour of ``path`` and move it into place: a reader sees all or nothing.

    Raises ``DiskError`` when the file cannot be written; the temporary file is removed.
    """
    # `_DRAFTS`. Not the file's own name with something added: a name may be as long as the system lets it.
    temporary = path.with_name(f".{zlib.crc32(os.fsencode(path.name)):08x}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_readable(temporary, write)
        temporary.replace(path)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors wrap the system's error
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise DiskError(
            f"Results must be written before a trial goes on, but {path} cannot be ({room(path.parent)}): {error}. "
            f"Free some space or name another folder, then run the same command again; what was finished is kept."
        ) from error


def room(folder: Path) -> str:
    """How much is free where ``folder`` lies, in words; that there is none where it is missing."""
    return f"{shutil.disk_usage(folder).free / 2**20:.1f} MiB free" if folder.exists() else "no folder"


def write_readable(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` on ``path`` and give the file the mode of any new file, which follows the umask.

    safetensors alone would leave a file that nobody but its owner can read. Raises what ``write`` raises.
    """
    path.touch()
    mode = path.stat().st_mode
    write(path)
    if path.stat().st_mode != mode:
        path.chmod(mode)


def remove_leavings(folder: Path) -> None:
    """Remove checkpoints and unfinished files of the trials in a study's ``folder``, of which none is open any more.

    A process that is killed while it writes, or between an outcome and what follows it, leaves them.
    """
    for name in (CHECKPOINT, _DRAFTS):
        for left in folder.glob(f"{TRIALS}/*/{name}"):
            left.unlink(missing_ok=True)


def locked(path: Path) -> AbstractContextManager[object]:
    """Keep every other process that asks for the lock of ``path`` out within the context; it waits for its turn.

    Raises ``OSError`` where no file can be made next to ``path``.
    """
    lock = path.with_name(f".{path.name}.lock")
    lock.touch()  # FileLock would wait for ever where no file can be made
    return FileLock(lock)
