"""What lies in a folder: the files that count, by name, and what is left out. Data sets and predictions list alike."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from sam2lora.datasets.pairs import LeftOut, failure
from sam2lora.errors import DataError

_PLAIN = (
    ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif",
    ".tiff", ".webp",
)  # fmt: skip
IMAGE_SUFFIXES = (*_PLAIN, *(f"{suffix}.gz" for suffix in _PLAIN))


def contents(where: Path) -> list[Path]:
    """Everything in a folder, by name as it reads (in Unicode's form C). Empty where there is no folder.

    Raises ``DataError`` when the folder cannot be listed, or is a link to nothing.
    """
    try:
        return sorted(where.iterdir(), key=lambda path: (unicodedata.normalize("NFC", path.name), path.name))
    except (FileNotFoundError, NotADirectoryError):
        if where.is_symlink() and not where.exists():
            raise failure(where, *_to_nothing(where)) from None
        return []
    except OSError as error:
        raise failure(where, *_closed(error)) from error


def is_folder(path: Path) -> bool:
    """Whether ``path`` is a folder or a link to one. Raises ``DataError`` when that cannot be known."""
    try:
        return path.is_dir()
    except OSError as error:
        raise failure(path.parent, *_closed(error)) from error


def optional(where: Path, name: str) -> Path | None:
    """What is called ``name`` in a folder, in either case; None where nothing is.

    Raises ``DataError`` as ``contents`` does, for several, and for a link to nothing: what was meant to be there must
    not be taken for absent.
    """
    here = [path for path in contents(where) if path.name.lower() == name.lower()]
    if len(here) > 1:
        several = " and ".join(path.name for path in here)
        raise failure(where, f"there must be one {name}", f"there are {several}", "keep one of them")
    for path in here:
        size_and_time(path)
    return here[0] if here else None


def folders(where: Path) -> list[Path]:
    """The folders in a folder, by name, but hidden ones. Raises ``DataError`` as ``contents`` does."""
    return [path for path in contents(where) if kind(path) == "folder"]


def files(where: Path, endings: Sequence[str] = IMAGE_SUFFIXES) -> dict[Path, str]:
    """The files of a folder whose names end in one of ``endings`` in either case, each with its stem, by name.

    Hidden files, folders and special files are not among them. A link to nothing is, so that it is refused by name
    where it is read. A stem is in Unicode's form C: systems differ in how they store an umlaut, and names that read
    alike are alike. Raises ``DataError`` as ``contents`` does, and for a name that is no UTF-8.
    """
    stems = {path: stem(path, endings) for path in contents(where)}
    return {path: name for path, name in stems.items() if name is not None}


def stem(path: Path, endings: Sequence[str] = IMAGE_SUFFIXES) -> str | None:
    """The name of a file less that of ``endings`` in which it ends, as ``files`` has it; None where it is none of them.

    Raises ``DataError`` for a name that is no UTF-8.
    """
    ending = _ending(path.name, endings)
    if ending is None or kind(path) in ("hidden", "folder", "special"):
        return None
    return unicodedata.normalize("NFC", _readable(path).name)[: -len(ending)]


def others(used: Collection[Path], base: Path | None = None) -> tuple[LeftOut, ...]:
    """What lies beside the files of ``used``, in the same folders and in ``base``, and is none of them."""
    places = {path.parent for path in used} | ({base} if base is not None else set())
    needed = {*used, *places, *(parent for place in places for parent in place.parents)}
    return tuple(
        LeftOut(path, kind(path)) for place in sorted(places) for path in contents(place) if path not in needed
    )


def summary(left_out: Iterable[LeftOut]) -> str:
    """What was left out in a few words, "2 hidden files, 1 .txt file, 1 folder"; the most frequent kinds first."""
    counts = Counter(one.kind for one in left_out)
    by_count = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    nouns = [(count, kind if kind == "folder" else f"{kind} file") for kind, count in by_count]
    return ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in nouns)


def kind(path: Path) -> str:
    """What a path in a folder is: see ``LeftOut.kind``."""
    if path.name.startswith("."):
        return "hidden"
    try:
        mode = path.stat().st_mode
    except OSError:  # a link to nothing, or a folder that may be listed and not entered: reading it says which
        mode = stat.S_IFREG
    if stat.S_ISDIR(mode):
        return "folder"
    if not stat.S_ISREG(mode):
        return "special"
    ending = _ending(path.name, IMAGE_SUFFIXES) or path.suffix.lower()
    return printable(ending) or "nameless"


def _ending(name: str, endings: Sequence[str]) -> str | None:
    return next((suffix for suffix in endings if name.lower().endswith(suffix)), None)


def printable(text: str) -> str:
    """``text`` with the bytes that are no UTF-8 written as \\xff: a terminal and a table take no others."""
    return os.fsencode(text).decode("utf-8", "backslashreplace")


def _readable(path: Path) -> Path:
    written = printable(path.name)
    if written != path.name:
        remedy = "rename it, for instance with convmv"
        raise failure(Path(printable(str(path))), "a file name must be UTF-8", "it is not", remedy)
    return path


def _to_nothing(path: Path) -> tuple[str, str, str]:
    """Rule, value and remedy of a link to nothing."""
    value = f"it is a link to {printable(str(path.readlink()))}, which is not there"
    return "a link must lead somewhere", value, "fetch what it stands for, or remove it"


def _closed(error: OSError) -> tuple[str, str, str]:
    return "a folder must be readable", str(error.strerror), "change its permissions, or name another"


def size_and_time(path: Path) -> tuple[int, int]:
    """Bytes and time of change (ns) of a file. Raises ``DataError`` for a link to nothing and a closed folder."""
    try:
        found = path.stat()
    except OSError as error:
        raise unreachable(path, error) from error
    return found.st_size, found.st_mtime_ns


def unreachable(path: Path, error: OSError) -> DataError:
    """Why a file cannot be opened, as one ``DataError``."""
    if path.is_symlink() and not path.exists():
        return failure(path, *_to_nothing(path))
    remedy = "change its permissions, or copy it again from its owners"
    return failure(path, "a file must be readable", str(error.strerror or error), remedy)
