"""Features of images that no adapter has touched: computed once for all epochs, trials and processes of a machine.

A trial that leaves the first blocks of the encoder alone, or all of it, spends much of its time on features that an
earlier epoch or trial had already: trials of equal replicate see the same augmented images. ``FeatureCache`` keeps
them in files. A file is named after all that its content depends on, bit by bit: the pixels, the weights in front of
the first trained one and the arithmetic. Images go through these blocks one by one, since sums round differently in
batches of another size.

On a CPU alone: the host takes 7 ms to name the file of an image of 1024 pixels and 5 ms to check what it holds, and a
GPU would wait for both and for the copies. Most GPUs have computed the features by then.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sam2lora.files import write_readable
from sam2lora.runtime import Runtime
from sam2lora.tensors import bytes_of, checksum

_FORMAT = 5  # raise it when the code in front of the decoder gives other bits for equal weights and pixels
_MIB = 2**20
IDLE = 3600.0
"""Seconds after which features that nobody read may make room for others."""

Levels = dict[str, Tensor]
"""Features by name, each of one image (1, ...)."""


class FeatureCache:
    """Looks up what was computed of an image before it computes it.

    With or without files (``Runtime.features_mib`` 0) it is bit by bit the same: images go one by one.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.store = Store(runtime.cache / "features", runtime.features_mib) if runtime.features_mib else None
        self._weights: dict[str, str] = {}

    def recall(
        self,
        images: Tensor,
        compute: Callable[[Tensor], Sequence[Tensor]],
        what: str,
        weights: Callable[[], Iterable[tuple[str, Tensor]]],
    ) -> list[Tensor]:
        """The maps (N, ...) that ``compute`` makes of ``images`` (N, 3, S, S), without a gradient.

        ``what`` names them, and ``weights`` all that they depend on; these must stay as they are.
        """
        with torch.no_grad():
            found = [self._one(image[None], compute, what, weights) for image in images]
        return [torch.cat(level) for level in zip(*found, strict=True)]

    def _one(
        self,
        image: Tensor,
        compute: Callable[[Tensor], Sequence[Tensor]],
        what: str,
        weights: Callable[[], Iterable[tuple[str, Tensor]]],
    ) -> Sequence[Tensor]:
        if self.store is None:
            return compute(image)
        if what not in self._weights:
            self._weights[what] = _digest(weights())
        key = _key(image, what, self._weights[what])
        if (known := self.store.read(key)) is not None:
            return list(known.values())
        levels = compute(image)
        self.store.write(key, {f"{number:02}": level for number, level in enumerate(levels)})
        return levels


def _key(image: Tensor, what: str, weights: str) -> str:
    half = str(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else ""
    name = hashlib.sha256(json.dumps([_FORMAT, what, weights, half, list(image.shape), *_machine()]).encode())
    name.update(bytes_of(image))
    return name.hexdigest()


class Store:
    """Features by key: files under ``root`` of at most ``mib`` MiB together, whoever writes them.

    Where they are full, those that nobody read for `IDLE` seconds make room; where there are none, nothing is added.
    A file that is not as it was written is reported by a warning and removed: its features are computed again. A folder
    that cannot be written serves what it holds.
    """

    def __init__(self, root: Path, mib: int) -> None:
        self.root, self.limit = root, mib * _MIB
        self.closed_until = -1.0

    def read(self, key: str) -> Levels | None:
        """The features of ``key``, memory-mapped on the CPU; None if they are not here."""
        path = self._path(key)
        try:
            with safe_open(path, "pt") as file:
                levels = {name: file.get_tensor(name) for name in sorted(file.keys())}
                intact = (file.metadata() or {}).get("crc") == checksum(levels)
        except FileNotFoundError:
            return None
        except SafetensorError as error:
            _drop(path, str(error))
            return None
        except OSError as error:
            warnings.warn(f"{path}: kept features cannot be read ({error}), so they are computed again.", stacklevel=2)
            return None
        if not intact:
            _drop(path, "its checksum differs")
            return None
        with suppress(OSError):  # a folder that others keep: they say what is idle
            os.utime(path)
        return levels

    def write(self, key: str, levels: Levels) -> None:
        """Keep ``levels`` if there is room. A disk that refuses them is reported by a warning and changes nothing."""
        path = self._path(key)
        if time.monotonic() < self.closed_until:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / ".lock"):
                if not path.exists():
                    self._file(path, {name: level.contiguous() for name, level in levels.items()})
        except (OSError, SafetensorError) as error:
            self.closed_until = time.monotonic() + IDLE
            warnings.warn(f"{self.root}: features cannot be kept ({error}), so they are computed again.", stacklevel=2)

    def _file(self, path: Path, levels: Levels) -> None:
        size = sum(level.nbytes for level in levels.values()) + 2**10  # a generous header
        note = self.root / "bytes"
        used = self._used(note, size)
        if used + size > self.limit:
            self.closed_until = time.monotonic() + 60
            return
        # Whoever ends in between leaves no note, and the next one counts.
        note.unlink(missing_ok=True)
        draft = path.with_suffix(".draft")  # one writer at a time holds the lock
        try:
            write_readable(draft, lambda path: save_file(levels, path, metadata={"crc": checksum(levels)}))
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
        noted = note.with_suffix(".draft")
        noted.write_text(str(used + size))
        noted.replace(note)

    def _used(self, note: Path, size: int) -> int:
        """The bytes of all files: as a note beside them says, or counted, with room made for ``size`` more.

        The lock must be held. A note that is no number is as good as none.
        """
        try:
            used = int(note.read_text())
        except (FileNotFoundError, ValueError):
            used = self._count(0)
        return used if used + size <= self.limit else self._count(size)

    def _count(self, size: int) -> int:
        """The bytes of all files, after idle ones were removed, the longest idle first, until ``size`` more fit."""
        files = sorted((entry.stat().st_mtime, entry.stat().st_size, entry) for entry in self._files())
        used = sum(bytes_ for _, bytes_, _ in files)
        for last, bytes_, file in files:
            if used + size <= self.limit or last > time.time() - IDLE:
                break
            file.unlink()
            used -= bytes_
        return used

    def _files(self) -> Iterator[Path]:
        return self.root.glob("??/*.*")

    def _path(self, key: str) -> Path:
        return self.root / key[:2] / f"{key}.safetensors"


def _digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """The sha256 of names, shapes and bits."""
    name = hashlib.sha256()
    for label, tensor in tensors:
        name.update(json.dumps([label, str(tensor.dtype), list(tensor.shape)]).encode())
        name.update(bytes_of(tensor))
    return name.hexdigest()


def _machine() -> list[str | int]:
    """What the rounding of sums depends on."""
    return [torch.__version__, platform.machine(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()]


def _drop(path: Path, why: str) -> None:
    warnings.warn(f"{path}: kept features must be as they were written, but {why}: computed again.", stacklevel=3)
    with suppress(OSError):  # not ours to remove
        path.unlink(missing_ok=True)
