"""Features of images that no adapter has touched: computed once for all epochs, trials and processes of a machine.

A trial that leaves the first blocks of the encoder alone, or all of it, spends much of its time on features that an
earlier epoch or trial had already: trials of equal replicate see the same augmented images. ``Remembering`` keeps them
in files. A file is named after all that its content depends on, bit by bit: the pixels, the weights in front of the
first trained one and the arithmetic. Images go through these blocks one by one, since sums round differently in
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
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sam2lora.model import Features, Sam2Segmenter, Segmenter, Stage
from sam2lora.runtime import Runtime

_FORMAT = 3  # raise it when the code in front of the decoder gives other bits for equal weights and pixels
_MIB = 2**20
IDLE = 3600.0
"""Seconds after which features that nobody read may make room for others."""

Levels = dict[str, Tensor]
"""Features by name, each of one image (1, ...)."""
_TRUNK = "image_encoder.trunk"


def untouched(segmenter: Sam2Segmenter) -> int | None:
    """How many blocks lie in front of the first trained tensor; None if nothing in front of the decoder is trained."""
    trained = {name for name, tensor in _encoder(segmenter, None) if tensor.requires_grad}
    if not trained:
        return None
    blocks = range(segmenter.blocks + 1)
    return max((b for b in blocks if not any(name in trained for name, _ in _encoder(segmenter, b))), default=0)


def remembering(segmenter: Segmenter, runtime: Runtime) -> Segmenter:
    """``segmenter``; on a CPU with a memory for the features that its adapter leaves `untouched`, if there are any."""
    if runtime.device == "cpu" and isinstance(segmenter, Sam2Segmenter) and untouched(segmenter) != 0:
        return Remembering(segmenter, runtime)
    return segmenter


class Remembering(Sam2Segmenter):
    """A segmenter, sharing all modules of another one, that looks features up before it computes them.

    What it remembers is what was `untouched` when it was made. With or without files (``Runtime.features_mib`` 0) the
    features are bit by bit the same. They carry no gradient, and the weights in front of them must stay as they are.
    """

    def __init__(self, segmenter: Sam2Segmenter, runtime: Runtime) -> None:
        super().__init__(segmenter.sam, segmenter.backbone)
        self.mean, self.std = segmenter.mean, segmenter.std
        self.store = Store(runtime.cache / "features", runtime.features_mib) if runtime.features_mib else None
        self.untouched = untouched(segmenter)
        self.weights = ""
        self.train(segmenter.training)

    def encode(self, images: Tensor) -> Features:
        """The features of RGB ``images`` (N, 3, S, S) in [0, 1], what is untouched each from its file or filed."""
        if self.untouched is not None:
            return self.neck(self.run_blocks(self.front(images, self.untouched)))
        whole = super().encode
        return Features(**self._known(images, lambda image: whole(image)._asdict()))

    def front(self, images: Tensor, until: int) -> Stage:
        """As the segmenter's own, from files if ``until`` is where the first trained tensor lies."""
        if until != self.untouched:
            return super().front(images, until)
        plain = super().front
        levels = self._known(images, lambda image: _levels(plain(image, until)))
        return Stage(levels.pop("x"), until, tuple(levels.values()))

    def _known(self, images: Tensor, compute: Callable[[Tensor], Levels]) -> Levels:
        with torch.no_grad():
            found = [self._one(image[None], compute) for image in images]
        return {name: torch.cat([levels[name] for levels in found]) for name in found[0]}

    def _one(self, image: Tensor, compute: Callable[[Tensor], Levels]) -> Levels:
        if self.store is None:
            return compute(image)
        key = self._key(image)
        if (known := self.store.read(key)) is not None:
            return known
        levels = compute(image)
        self.store.write(key, levels)
        return levels

    def _key(self, image: Tensor) -> str:
        self.weights = self.weights or weights(self, self.untouched)
        half = str(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else ""
        dtype = str(self.sam.no_mem_embed.dtype)
        arithmetic = [_FORMAT, self.weights, dtype, half, list(image.shape), *_machine()]
        name = hashlib.sha256(json.dumps(arithmetic).encode())
        name.update(_bytes(image))
        return name.hexdigest()


def _levels(stage: Stage) -> Levels:
    return {"x": stage.x, **{str(number): output for number, output in enumerate(stage.outputs)}}


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
                intact = (file.metadata() or {}).get("crc") == _crc(levels)
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
            save_file(levels, draft, metadata={"crc": _crc(levels)})
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


def weights(segmenter: Sam2Segmenter, blocks: int | None) -> str:
    """The sha256 of all that stands in front of block ``blocks``, or of the decoder (None): names, shapes and bits."""
    name = hashlib.sha256(json.dumps(blocks).encode())
    for label, tensor in _encoder(segmenter, blocks):
        name.update(json.dumps([label, str(tensor.dtype), list(tensor.shape)]).encode())
        name.update(_bytes(tensor))
    return name.hexdigest()


def _encoder(segmenter: Sam2Segmenter, blocks: int | None) -> Iterator[tuple[str, nn.Parameter | Tensor]]:
    """The tensors that features depend on, by name: in front of the decoder (None), or of block ``blocks`` alone."""
    sam = segmenter.sam
    if blocks is None:
        yield "no_mem_embed", sam.no_mem_embed
    parts = ["image_encoder", "sam_mask_decoder.conv_s0", "sam_mask_decoder.conv_s1"] if blocks is None else [_TRUNK]
    for part in parts:
        module = sam.get_submodule(part)
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            block = int(name.split(".")[1]) if part == _TRUNK and name.startswith("blocks.") else 0
            if blocks is None or not name.startswith("blocks.") or block < blocks:
                yield f"{part}.{name}", tensor


def _machine() -> list[str | int]:
    """What the rounding of sums depends on."""
    return [torch.__version__, platform.machine(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()]


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _drop(path: Path, why: str) -> None:
    warnings.warn(f"{path}: kept features must be as they were written, but {why}: computed again.", stacklevel=3)
    with suppress(OSError):  # not ours to remove
        path.unlink(missing_ok=True)


def _crc(levels: Levels) -> str:
    total = 0
    for _, level in sorted(levels.items()):
        total = zlib.crc32(_bytes(level), total)
    return str(total)
