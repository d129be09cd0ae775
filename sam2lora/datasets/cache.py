"""Decoded, cropped and resized images on disk: written once, memory-mapped by every process of a machine."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import numpy as np
from PIL import Image

from sam2lora.choice import to_json
from sam2lora.datasets.cache_checksums import damage, write_checksums
from sam2lora.datasets.geometry import Native, letterbox
from sam2lora.datasets.likeness import fingerprint, thumbnail
from sam2lora.datasets.listing import size_and_time, summary, unreachable
from sam2lora.datasets.pairs import Bits, Entry, Found, LeftOut, Pixels, Problem, Source, report
from sam2lora.errors import DataError, DiskError
from sam2lora.files import locked

_FORMAT = 8  # raise it when the rules of reading, of the field of view or of the frame change what a cache holds
_MIB = 2**20
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class CachedSet:
    """A data set in the frame of a model: N images of S x S pixels.

    ``ids``, ``patients``, ``splits``: one text per image, sorted by id. ``files``: the images. ``fingerprints``: of the
    pixels at native size, see ``likeness``; thumbnails lie beside them in ``folder``. ``images``: (N, S, S, 3) uint8
    and ``masks``: (N, S, S) uint8 in {0, 1}, both memory-mapped and read-only. ``digest``: sixteen hexadecimal digits
    over the contents of all files and the options of the set; the size is not part of it. ``skipped``: why images were
    left out that could not be read, one text each; empty unless the set asks for that. ``fitted``: ids of masks that
    were cut or padded by the few pixels that the set tolerates. ``left_out``: what lies in the folders of the set and
    is no part of it.
    """

    dataset: Source
    size: int
    ids: tuple[str, ...]
    patients: tuple[str, ...]
    splits: tuple[str, ...]
    files: tuple[Path, ...]
    fingerprints: tuple[str, ...]
    images: Pixels
    masks: Pixels
    digest: str
    folder: Path
    skipped: tuple[str, ...]
    fitted: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    _ways: tuple[tuple[tuple[int, int, int, int], tuple[int, int]], ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def absent(self) -> tuple[str, ...]:
        """What was left out as requested, one text each: images that cannot be read, then unpaired files.

        The latter by folder and name, which stay the same when the data are moved.
        """
        alone = [one.path for one in self.left_out if one.kind == "unpaired"]
        return (*self.skipped, *(f"{path.parent.name}/{path.name}: it is unpaired" for path in alone))

    def native(self, index: int) -> Native:
        """The mask and field of view of one image at native size, and the way back from the frame."""
        box, content = self._ways[index]
        mask, fov = (_load_bits(self.folder / f"{index:05d}_{what}.png") for what in ("mask", "fov"))
        return Native(mask, fov, box, content)


def left_out(sets: Iterable[CachedSet]) -> list[str]:
    """What was left out of data sets, as lines for the user: on the folders and images of a set, then one per image."""
    lines = []
    for opened in sets:
        if opened.left_out:
            lines.append(f"left out of the folders of {opened.dataset.name}: {summary(opened.left_out)}")
        if count := len(opened.fitted):
            some = f"{', '.join(opened.fitted[:5])}{' ...' if count > 5 else ''}"
            masks = f"{count} of {len(opened)} masks of {opened.dataset.name}"
            lines.append(f"{masks} do not have the size of their images and were cut or padded: {some}")
        if count := len(opened.skipped):
            whole = count + len(opened)
            lines.append(f"{count} of {whole} images of {opened.dataset.name} cannot be read and were left out:")
            lines += [f"  {why}" for why in opened.skipped]
    return lines


def cached(dataset: Source, root: Path | None, size: int, cache_dir: Path) -> CachedSet:
    """Open ``dataset`` at ``size`` pixels; build its cache first where there is none.

    A second call opens no file under ``root``: the list of files with their sizes and times of change names a known
    content digest, and the digest names the cache. Builders work in folders of their own and rename them at the end,
    so several processes may build the same set at once and a killed one leaves no half cache. What is there is used
    even if the folder cannot be written; a cache that is not as it was written is renamed, with a warning, and built
    again. ``root`` may be None for procedural sets. Raises ``DataError`` with every
    problem of the set, ``DiskError`` when the disk is full or a cache that is needed cannot be read or written.
    """
    found = dataset.find(root)
    if found.problems:
        raise report(dataset.title, [*found.problems, *_unreadable(dataset, found)])
    splits = assigned(dataset, found.entries)
    _make(cache_dir)
    with _disk(cache_dir, needed := len(found.entries) * size * size * 4):
        digest = _digest(dataset, found, cache_dir)
        home = cache_dir / f"{dataset.name}_{size}_{digest}"
        if home.is_dir() and damage(home) is not None:
            _set_aside(home)
        if not home.is_dir():
            _build(dataset, found, size, home, needed)
    return _open(dataset, found, splits, size, digest, home)


def _set_aside(home: Path) -> None:
    """Rename a cache that is damaged, unless another process has built it again meanwhile."""
    with locked(home):
        if home.is_dir() and (why := damage(home)) is not None:
            aside = home.with_name(f"{home.name}.damaged.{uuid4().hex[:8]}")
            home.rename(aside)
            warnings.warn(
                f"{home}: a cache must be as it was written, but {why}: it is now {aside.name}, and is built again.",
                stacklevel=3,
            )


def _unreadable(dataset: Source, found: Found) -> list[str]:
    """Why entries cannot be read. Reported with the problems of the layout, so that all can be mended at once."""
    why = []
    for entry in found.entries if not found.skip_unreadable else ():
        try:
            dataset.read(entry)
        except DataError as error:
            why.append(str(error))
    return why


def _make(cache_dir: Path) -> None:
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(
            f"{cache_dir}: the cache must be a folder that can be written, but {error.strerror}: "
            f"set SAM2LORA_CACHE to another folder."
        ) from error


def assigned(dataset: Source, entries: Sequence[Entry]) -> tuple[str, ...]:
    """The split of every entry. Raises ``DataError`` naming each image that the split of the set does not know."""
    table = dataset.assignment(entries)
    unknown = [entry for entry in entries if entry.id not in table]
    if unknown:
        rule, remedy = "every image must be in the split of its set", "remove the file, or add it to the CSV of the set"
        raise report(dataset.title, [Problem(e.image, rule, f"{e.id} is not", remedy) for e in unknown])
    return tuple(table[entry.id] for entry in entries)


def _digest(dataset: Source, found: Found, cache_dir: Path) -> str:
    """The content digest, looked up by what the file system says of the files and computed where that is new."""
    entries = found.entries
    files = sorted({file for entry in entries for file in entry.files})
    stats = [(str(file.absolute()), *_stat(file)) for file in files]
    people = [(entry.id, entry.patient, entry.split) for entry in entries]
    known = hashlib.sha256(json.dumps([_FORMAT, to_json(dataset), people, stats]).encode()).hexdigest()
    note = cache_dir / "known" / known[:32]
    with suppress(OSError, ValueError):
        digest, checksum = note.read_text().split()
        if checksum == _note_checksum(known, digest):
            return digest
    content = _contents(dataset, files, found.skip_unreadable)
    listing = [[entry.id, entry.patient, entry.split, [content[file] for file in entry.files]] for entry in entries]
    digest = hashlib.sha256(json.dumps([_FORMAT, to_json(dataset), listing]).encode()).hexdigest()[:16]
    draft = note.with_name(f"{note.name}.{os.getpid()}")
    try:
        note.parent.mkdir(exist_ok=True)
        draft.write_text(f"{digest} {_note_checksum(known, digest)}")
        draft.replace(note)
    except OSError as error:
        if error.errno not in _REFUSED:  # otherwise others keep the folder: its caches can be used without a note
            raise
    return digest


def _note_checksum(known: str, digest: str) -> str:
    return hashlib.sha256(f"{known} {digest}".encode()).hexdigest()[:16]


def _stat(file: Path) -> tuple[int, int] | tuple[()]:
    """Bytes and time of change, which change with the contents; nothing where the file cannot be read."""
    with suppress(DataError):
        return size_and_time(file) if os.access(file, os.R_OK) else ()
    return ()


def _contents(dataset: Source, files: Sequence[Path], skip_unreadable: bool) -> dict[Path, str]:
    """The sha256 of every file. Raises ``DataError`` with all that cannot be read, or has nothing for these."""
    content: dict[Path, str] = {}
    problems: list[DataError] = []
    for file in files:
        try:
            content[file] = hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError as error:
            content[file] = ""
            problems.append(unreachable(file, error))
    if problems and not skip_unreadable:
        raise report(dataset.title, problems)
    return content


def _build(dataset: Source, found: Found, size: int, home: Path, needed: int) -> None:
    if shutil.disk_usage(home.parent).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    draft = home.with_name(f".{home.name}.{uuid4().hex}")
    draft.mkdir()  # with the permissions of any folder, unlike one of tempfile's: others may read what they share
    try:
        _fill(dataset, found, size, draft)
        _publish(draft, home)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _publish(draft: Path, home: Path) -> None:
    try:
        draft.rename(home)
    except OSError:
        if not home.is_dir():  # otherwise another process was faster with the same contents
            raise


def _fill(dataset: Source, found: Found, size: int, draft: Path) -> None:
    """Write every file of a cache. Rows are written, not mapped: a full disk is an error, not a bus signal."""
    ways: dict[str, object] = {}
    problems: list[str] = []
    prints: list[str] = []
    fitted: list[str] = []
    thumbnails: list[Pixels] = []
    with (draft / "images.npy").open("wb") as images, (draft / "masks.npy").open("wb") as masks:
        _headers(images, masks, len(found.entries), size)
        for entry in found.entries:
            try:
                pair = dataset.read(entry)
                image, mask, native = letterbox(pair, size)
            except DataError as error:
                problems.append(str(error))
                continue
            images.write(image.tobytes())
            masks.write(mask.tobytes())
            for what, bits in (("mask", native.mask), ("fov", native.fov)):
                Image.fromarray(bits).save(draft / f"{len(ways):05d}_{what}.png", compress_level=1)
            fitted += [entry.id] if pair.fitted else []
            prints.append(fingerprint(pair.image))
            thumbnails.append(thumbnail(pair.image))
            ways[entry.id] = [native.box, native.content]
        _headers(images, masks, len(ways), size)
    if problems and not (found.skip_unreadable and ways):
        raise report(dataset.title, problems)
    np.save(draft / "thumbnails.npy", np.stack(thumbnails))
    (draft / "ways.json").write_text(json.dumps([ways, prints, fitted, problems]))
    write_checksums(draft)


def _headers(images: BinaryIO, masks: BinaryIO, count: int, size: int) -> None:
    """Begin both files with how many images they hold; NumPy leaves room for any count, so it can be corrected."""
    for file, shape in ((images, (count, size, size, 3)), (masks, (count, size, size))):
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _open(dataset: Source, found: Found, splits: tuple[str, ...], size: int, digest: str, home: Path) -> CachedSet:
    try:
        ways, prints, fitted, skipped = json.loads((home / "ways.json").read_text())
        images, masks = (np.load(home / f"{what}.npy", mmap_mode="r") for what in ("images", "masks"))
    except PermissionError as error:
        raise _refused(home, error) from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENOMEM:
            raise
        raise DiskError(
            f"{home}: a cache must be unchanged since it was written, but {error}: remove this folder, it will be "
            f"built again."
        ) from error
    kept = [(entry, split) for entry, split in zip(found.entries, splits, strict=True) if entry.id in ways]
    return CachedSet(
        dataset=dataset,
        size=size,
        ids=tuple(entry.id for entry, _ in kept),
        patients=tuple(entry.patient for entry, _ in kept),
        splits=tuple(split for _, split in kept),
        files=tuple(entry.image for entry, _ in kept),
        fingerprints=tuple(prints),
        images=images,
        masks=masks,
        digest=digest,
        folder=home,
        skipped=tuple(skipped),
        fitted=tuple(fitted),
        left_out=found.left_out,
        _ways=tuple((tuple(box), tuple(content)) for box, content in (ways[entry.id] for entry, _ in kept)),
    )


def _load_bits(path: Path) -> Bits:
    with Image.open(path) as image:
        return np.asarray(image, np.bool_)


@contextmanager
def _disk(place: Path, needed: int) -> Iterator[None]:
    """Turn a full or closed disk into a message that says what is needed, what is free and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _REFUSED:
            raise _refused(place, error) from error
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(place).free
        raise DiskError(
            f"{place}: a cache of about {needed / _MIB:.0f} MiB must fit, but {free / _MIB:.0f} MiB are free: "
            f"free some space, or set SAM2LORA_CACHE to a folder on another disk."
        ) from error


def _refused(place: Path, error: OSError) -> DiskError:
    return DiskError(
        f"{place}: a cache must be a folder that can be read and, to add to it, written, but {error.strerror}: "
        f"ask its owner for access, or set SAM2LORA_CACHE to another folder."
    )
