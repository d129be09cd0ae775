"""Checksums of the files of a cache: one whose bytes changed on the disk is never read."""

from __future__ import annotations

import json
import zlib
from functools import lru_cache
from pathlib import Path

_CHECKSUMS = "checksums.json"
_AT_ONCE = 2**24  # bytes


def write_checksums(folder: Path) -> None:
    """Add the size in bytes and the CRC-32 of every file in ``folder``, which is then complete."""
    (folder / _CHECKSUMS).write_text(json.dumps({path.name: _checksum(path) for path in sorted(folder.iterdir())}))


def damage(folder: Path) -> str | None:
    """What about ``folder`` is not as it was written, in words; None where all is.

    Every file is read, once in the life of a process unless it changes. A folder of an earlier version, which has no
    checksums, is taken as it is. Raises ``OSError`` for a file that cannot be read.
    """
    if not (folder / _CHECKSUMS).exists():
        return None
    stats = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
    return _damage(folder, tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))


@lru_cache(maxsize=256)
def _damage(folder: Path, stats: tuple[tuple[str, int, int], ...]) -> str | None:
    try:
        checksums: dict[str, list[int]] = json.loads((folder / _CHECKSUMS).read_bytes())
        for name, checksum in checksums.items():
            if _checksum(folder / name) != checksum:
                return f"the checksum of {name} differs"
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (ValueError, AttributeError) as error:
        return f"{_CHECKSUMS} cannot be read ({error})"
    return None


def _checksum(path: Path) -> list[int]:
    size = total = 0
    with path.open("rb") as file:
        while part := file.read(_AT_ONCE):
            size, total = size + len(part), zlib.crc32(part, total)
    return [size, total]
