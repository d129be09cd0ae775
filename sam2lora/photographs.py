"""The photographs that a command line names, and the names of their results."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sam2lora.datasets import listing
from sam2lora.datasets.pairs import LeftOut
from sam2lora.errors import DataError

SETTINGS = "prediction.json"  # in every folder of predictions
RESULTS = ("masks", "overlays", "probabilities")  # folders next to it, whose pictures are no photographs


@dataclass(frozen=True)
class Photographs:
    """``files``: photographs by the name of their results, which includes the subfolder (``left/0001``).

    ``left_out``: other contents of the folders. ``closed``: errors of subfolders that cannot be listed.
    """

    files: Mapping[str, Path]
    left_out: tuple[LeftOut, ...] = ()
    closed: tuple[DataError, ...] = ()


Item = tuple[str, Path] | LeftOut | DataError


def find_photographs(paths: Sequence[Path]) -> Photographs:
    """The photographs at ``paths``: files, and the images of folders and of their subfolders, by name.

    Results of predictions are left out, even next to photographs, so that no mask or overlay is taken for one; so is a
    folder that was visited before (a link may lead to a folder above). Raises ``DataError`` for a path that does not
    exist, for a folder without images or of results, and for two files whose results would have the same name, also on
    disks that do not distinguish A from a.
    """
    items: list[Item] = []
    for path in paths:
        if not listing.is_folder(path):
            items.append((stem(path), _existing(path)))
            continue
        if _holds_results(path.resolve()):
            raise DataError(
                f"A folder must contain photographs, but {path} contains results of predictions: name another."
            )
        contents = list(_walk(path, "", set()))
        if all(isinstance(item, LeftOut) for item in contents):
            raise DataError(_without_images(path, (item for item in contents if isinstance(item, LeftOut))))
        items += contents
    left_out = tuple(item for item in items if isinstance(item, LeftOut))
    closed = tuple(item for item in items if isinstance(item, DataError))
    return Photographs(_by_name(item for item in items if isinstance(item, tuple)), left_out, closed)


def stem(file: Path) -> str:
    """The name of an image without its suffix and a final ``.gz``, in Unicode's form C."""
    name = Path(file.stem).stem if file.suffix.lower() == ".gz" else file.stem
    return unicodedata.normalize("NFC", name)


def _walk(place: Path, prefix: str, above: set[Path]) -> Iterator[Item]:
    """The contents of a folder and its subfolders. ``above``: the folders visited so far; this one is added."""
    above.add(place.resolve())
    try:
        contents = listing.contents(place)
    except DataError as error:
        if not prefix:
            raise
        yield error
        return
    for path in contents:
        kind = listing.kind(path)
        if kind == "folder":
            if path.resolve() in above or _holds_results(path):
                yield LeftOut(path, kind)
            else:
                yield from _walk(path, f"{prefix}{unicodedata.normalize('NFC', path.name)}/", above)
        elif (name := listing.stem(path)) is None:
            yield LeftOut(path, kind)
        else:
            yield prefix + name, path


def _holds_results(path: Path) -> bool:
    return path.name in RESULTS and (path.parent / SETTINGS).exists()


def _existing(path: Path) -> Path:
    if not path.exists() and not path.is_symlink():
        raise DataError(f"Images must be files or folders that exist, but {path} does not: check the path.")
    return path


def _without_images(path: Path, left_out: Iterable[LeftOut]) -> str:
    suffixes = ", ".join(suffix for suffix in listing.IMAGE_SUFFIXES if not suffix.endswith(".gz"))
    others = listing.summary(left_out)
    return (
        f"A folder must contain images ({suffixes}, each also gzipped, such as .ppm.gz), but {path} contains "
        f"{f'none, only {others}' if others else 'none'}: name the folder of the photographs."
    )


def _by_name(pairs: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """The files by name, without duplicates. A link keeps its name, not that of its target."""
    files: dict[str, Path] = {}
    by_folded_name: dict[str, Path] = {}
    for name, path in pairs:
        file = path.parent.resolve() / path.name
        if (first := by_folded_name.setdefault(name.casefold(), file)) != file:
            raise DataError(
                f"Images must have different names, since their masks have the same, but {first} and {file} do not: "
                f"rename one, or predict them into two folders."
            )
        files[name] = file
    return files
