"""Whether a file that is read back is as it was written: a damaged one is never read as something else.

Disks, copies and machines that lose power change bytes without a word. A checkpoint and an adapter hold a checksum of
their contents; the result that seals a trial's folder holds that of itself and of every other file.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sam2lora.errors import DamagedFile
from sam2lora.files import RESULT

_CHECKSUM = "checksum"


def check_archive(path: Path) -> None:
    """Raise ``DamagedFile`` unless ``path``, a file of ``torch.save``, holds what its checksums are of.

    ``torch.save`` writes a checksum for every record, and ``torch.load`` passes over them.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except PermissionError:
        raise
    except Exception as error:  # any byte of a header may have changed, and zipfile raises what it then meets
        raise DamagedFile(f"it is no whole file of torch.save ({error})") from error
    if damaged is not None:
        raise DamagedFile(f"the checksum of its record {damaged} differs")


def digest_of(content: bytes) -> str:
    """The sha256 of a file's content, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def digests_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """`digest_of` the files ``names`` in ``folder``, by name."""
    return {name: digest_of((folder / name).read_bytes()) for name in names}


def read_checked(path: Path, digest: str | None) -> bytes:
    """The content of ``path``, which must have that ``digest`` (``DamagedFile``), if an earlier version kept one."""
    content = path.read_bytes()
    if digest is not None and digest_of(content) != digest:
        raise DamagedFile(f"{path} must be as it was written, but its checksum differs: restore it from a copy.")
    return content


def seal(result: Mapping[str, Any]) -> str:
    """A result as JSON with a checksum of itself."""
    return json.dumps({**result, _CHECKSUM: _checksum(result)}, allow_nan=False)


def read_result(folder: Path) -> dict[str, Any]:
    """The result that seals a trial's ``folder``, once it and the files that it lists are found to be as written.

    Raises ``DamagedFile`` for what is not, and ``OSError`` for what is missing. One of an earlier version, which has no
    checksums, is taken as it is.
    """
    path = folder / RESULT
    try:
        result: dict[str, Any] = json.loads(path.read_bytes())
        checksum = result.pop(_CHECKSUM, None)
        whole = checksum == _checksum(result) or (checksum is None and "files" not in result)
    except (ValueError, TypeError, AttributeError):  # no JSON, or no object
        whole = False
    if not whole:
        raise DamagedFile(f"{path} must be as it was written, but its checksum differs: restore it from a copy.")
    for name, digest in (result.get("files") or {}).items():
        read_checked(folder / name, digest)
    return result


def _checksum(result: Mapping[str, Any]) -> str:
    return digest_of(json.dumps(result, sort_keys=True).encode())
