"""Download Meta's weights of SAM 2 by name: ``python -m sam2lora.checkpoints tiny large@2.0``.

Without a name, list all files and which of them are here already. Files lie in ``$SAM2LORA_CHECKPOINTS``, else in the
folder ``checkpoints`` of the cache. ``$SAM2LORA_CHECKPOINTS_URL`` names a mirror of Meta's folder
``segment_anything_2``. An interrupted download resumes where it stopped; a file is used only after its length and
sha256 were checked. Meta publishes no digests: they come from public copies of the files that agree with each other,
and the lengths from there and from the server.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from sam2lora.backbones import Sam2, Size, Version, published
from sam2lora.cli.messages import say
from sam2lora.cli.options import refuse
from sam2lora.cli.parser import Parser
from sam2lora.environment import folder, variable
from sam2lora.errors import CheckpointError, DiskError, Sam2LoraError
from sam2lora.files import locked
from sam2lora.runtime import default_cache

_META = "https://dl.fbaipublicfiles.com/segment_anything_2"
_BLOCK = 2**16  # at most this many bytes are lost when a connection breaks
_SECONDS = 30  # without a byte before a server counts as gone


@dataclass(frozen=True)
class Published:
    """One of Meta's files: its path below the base address, its length in bytes, and its sha256."""

    path: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.path.rpartition("/")[2]


# The digests are those that micro-sam (computational-cell-analytics) checks its downloads of the same addresses
# against; the Git LFS pointers of other public copies and the records of other downloaders agree.
_PATHS: dict[Version, str] = {"2.1": "092824/sam2.1_hiera_{}.pt", "2.0": "072824/sam2_hiera_{}.pt"}
_FILES: tuple[tuple[Size, Version, int, str], ...] = (
    ("tiny", "2.1", 156_008_466, "7402e0d864fa82708a20fbd15bc84245c2f26dff0eb43a4b5b93452deb34be69"),
    ("small", "2.1", 184_416_285, "6d1aa6f30de5c92224f8172114de081d104bbd23dd9dc5c58996f0cad5dc4d38"),
    ("base+", "2.1", 323_606_802, "a2345aede8715ab1d5d31b4a509fb160c5a4af1970f199d9054ccfb746c004c5"),
    ("large", "2.1", 898_083_611, "2647878d5dfa5098f2f8649825738a9345572bae2d4350a2468587ece47dd318"),
    ("tiny", "2.0", 155_906_050, "65b50056e05bcb13694174f51bb6da89c894b57b75ccdf0ba6352c597c5d1125"),
    ("small", "2.0", 184_309_650, "95949964d4e548409021d47b22712d5f1abf2564cc0c3c765ba599a24ac7dce3"),
    ("base+", "2.0", 323_493_298, "d0bb7f236400a49669ffdd1be617959a8b1d1065081789d7bbff88eded3a8071"),
    ("large", "2.0", 897_952_466, "7442e4e9b732a508f80e141e7c2913437a3610ee0c77381a66658c3a445df87b"),
)
CHECKPOINTS = {
    (size, version): Published(_PATHS[version].format(size.replace("+", "_plus")), length, digest)
    for size, version, length, digest in _FILES
}
"""Meta's file for each size and version of SAM 2."""


def local_folder() -> Path:
    """Where the files lie: ``$SAM2LORA_CHECKPOINTS``, else ``checkpoints`` in the cache."""
    named = variable("SAM2LORA_CHECKPOINTS")
    return folder("SAM2LORA_CHECKPOINTS", named) if named else default_cache() / "checkpoints"


def published_file(model: Sam2) -> Published:
    """Meta's file for the size and version of ``model``."""
    return CHECKPOINTS[model.size, model.version]


def local_path(model: Sam2) -> Path:
    """Where ``fetch`` puts the file of ``model``, whether it exists or not."""
    return local_folder() / published_file(model).name


def published_model(sha256: str) -> Sam2 | None:
    """The model whose weights Meta publishes in the file of this digest; None if there is none."""
    found = (key for key, file in CHECKPOINTS.items() if file.sha256 == sha256)
    return next((Sam2(size=size, version=version) for size, version in found), None)


def local_files() -> dict[str, Path]:
    """Where ``fetch`` puts each of Meta's files, whether it exists or not, by its digest; absolute."""
    return {file.sha256: (local_folder() / file.name).resolve() for file in CHECKPOINTS.values()}


def fetch(model: Sam2, console: Console) -> Path:
    """The file of ``model``, downloaded if it is missing: once, however many processes ask for it.

    An interrupted download is resumed. A file appears under its name only after its length and its
    sha256 were checked. Raises ``CheckpointError``, which says how to do without a network, and ``DiskError``.
    """
    file, path = published_file(model), local_path(model)
    try:
        if not path.exists():  # if it does, it is complete, and its folder may be read-only
            path.parent.mkdir(parents=True, exist_ok=True)
            with locked(path):
                if not path.exists():
                    _download(file, path, console)
    except requests.RequestException as error:
        raise CheckpointError(
            f"The weights of SAM {model.version} {model.size} must be downloaded from {_address(file)}, but "
            f"{_reason(error)}. Run the same command again to resume, name a mirror in $SAM2LORA_CHECKPOINTS_URL, or "
            f"download the file elsewhere and pass it with --checkpoint."
        ) from error
    except OSError as error:
        raise DiskError(
            f"A checkpoint must be written to {path}, but it cannot be ({error}): free some space, or name another "
            f"folder in $SAM2LORA_CHECKPOINTS. The downloaded part is kept."
        ) from error
    if path.stat().st_size != file.size:
        raise CheckpointError(
            f"{path} must have {file.size:,} bytes, but has {path.stat().st_size:,}: delete it to download it again."
        )
    return path


def _address(file: Published) -> str:
    return f"{(variable('SAM2LORA_CHECKPOINTS_URL') or _META).rstrip('/')}/{file.path}"


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"the server answers {error.response.status_code} {error.response.reason}"
    return f"the connection failed ({type(error).__name__})"


def _download(file: Published, path: Path, console: Console) -> None:
    part = path.with_name(f"{path.name}.part")
    have = part.stat().st_size if part.exists() else 0
    if have > file.size:
        part.unlink()
        have = 0
    _check_room(file.size - have, path.parent)
    if have < file.size:
        _transfer(file, part, have, console)
    with part.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != file.sha256:
        part.unlink()  # resuming would not repair a wrong byte
        raise CheckpointError(
            f"{file.name} must have sha256 {file.sha256}, but the download from {_address(file)} has {digest}: "
            f"it was removed. Download again, or from elsewhere, and pass the file with --checkpoint."
        )
    part.replace(path)


def _check_room(needed: int, where: Path) -> None:
    if shutil.disk_usage(where).free < needed:
        raise OSError(errno.ENOSPC, f"{needed:,} bytes are needed")


def _transfer(file: Published, part: Path, have: int, console: Console) -> None:
    """Append to ``part`` the bytes after its first ``have``."""
    # A compressed answer would have another length, and no range could be asked of it.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(_address(file), headers=headers, stream=True, timeout=_SECONDS) as answer:
        answer.raise_for_status()
        if answer.status_code != requests.codes.partial_content:
            have = 0  # the server does not support ranges and sends everything
        offered = have + int(answer.headers.get("Content-Length", file.size - have))
        if offered != file.size:
            raise CheckpointError(
                f"{file.name} must have {file.size:,} bytes, but {_address(file)} offers {offered:,}: it is another "
                f"file. Check the address, or download it elsewhere and pass it with --checkpoint."
            )
        with part.open("ab" if have else "wb") as out:
            _copy(answer, out, file, have, console)
    if part.stat().st_size < file.size:
        raise requests.ConnectionError("the server closed the connection early")


def _copy(answer: requests.Response, out: IO[bytes], file: Published, have: int, console: Console) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(file.name, total=file.size, completed=have)
        for block in answer.iter_content(_BLOCK):
            out.write(block)
            progress.advance(task, len(block))


def main(argv: Sequence[str] | None = None) -> int:
    """Download the named files and print their paths, or list all of them; returns the exit status."""
    command = Parser(prog="python -m sam2lora.checkpoints", description=__doc__)
    command.add_argument("names", nargs="*", metavar="NAME", help="tiny, small, base+ or large, with @2.0 for SAM 2")
    arguments = command.parse_args(argv)
    errors = Console(stderr=True)
    try:
        for model in [_named(name) for name in arguments.names]:
            say(Console(), str(fetch(model, errors)))
        if not arguments.names:
            Console().print(_table())
    except Sam2LoraError as error:
        return refuse(errors, error)
    return 0


def _named(name: str) -> Sam2:
    model = published(name)
    if model is None:
        names = ", ".join(_name(*key) for key in CHECKPOINTS)
        raise CheckpointError(f"A checkpoint must be one of {names}, but is {name!r}: choose a name from the list.")
    return model


def _name(size: Size, version: Version) -> str:
    return size if version == Sam2().version else f"{size}@{version}"


def _table() -> Table:
    table = Table("name", "file", "MiB", "here", box=None)
    for (size, version), file in CHECKPOINTS.items():
        here = local_path(Sam2(size=size, version=version))
        table.add_row(_name(size, version), file.name, f"{file.size / 2**20:.0f}", str(here) if here.exists() else "no")
    return table


if __name__ == "__main__":
    sys.exit(main())
