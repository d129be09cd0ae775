"""Which photographs a command line names, and by what names their results go."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sam2lora.datasets import listing
from sam2lora.datasets.pairs import LeftOut
from sam2lora.errors import DataError

SETTINGS = "prediction.json"  # lies in every folder of predictions
RESULTS = ("masks", "overlays", "probabilities")  # folders beside it, of pictures that are no photographs


@dataclass(frozen=True)
class Photographs:
    """What was found. ``files``: by the name of their results, which has the subfolder in it (``left/0001``).

    ``left_out``: what lies in the folders and is no photograph. ``closed``: why subfolders cannot be listed.
    """

    files: Mapping[str, Path]
    left_out: tuple[LeftOut, ...] = ()
    closed: tuple[DataError, ...] = ()


Seen = tuple[str, Path] | LeftOut | DataError


def found(named: Sequence[Path]) -> Photographs:
    """The photographs that ``named`` means: files, and the images of folders and of their subfolders, by name.

    Results of predictions are left out, also where they lie beside photographs, so that no mask and no overlay is taken
    for one; so is a folder that was seen already (a link may lead to one above). Raises ``DataError`` for what does not
    exist, for a folder without images or of results, and for two files whose results would bear the same name, also on
    disks that do not tell A from a.
    """
    seen: list[Seen] = []
    for path in named:
        if not listing.is_folder(path):
            seen.append((stem(path), _existing(path)))
            continue
        if _holds_results(path.resolve()):
            raise DataError(f"A folder must hold photographs, but {path} holds results of predictions: name another.")
        inside = list(_walk(path, "", set()))
        if all(isinstance(one, LeftOut) for one in inside):
            raise DataError(_without_images(path, (one for one in inside if isinstance(one, LeftOut))))
        seen += inside
    left_out = tuple(one for one in seen if isinstance(one, LeftOut))
    closed = tuple(one for one in seen if isinstance(one, DataError))
    return Photographs(_by_name(one for one in seen if isinstance(one, tuple)), left_out, closed)


def stem(file: Path) -> str:
    """The name of an image without its suffix, and without the ``.gz`` behind it; in Unicode's form C."""
    name = Path(file.stem).stem if file.suffix.lower() == ".gz" else file.stem
    return unicodedata.normalize("NFC", name)


def _walk(place: Path, prefix: str, above: set[Path]) -> Iterator[Seen]:
    """What lies in a folder and below. ``above``: the folders that were seen, to which this one is added."""
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
    there = listing.summary(left_out)
    return (
        f"A folder must hold images ({suffixes}, each also gzipped, such as .ppm.gz), but {path} holds "
        f"{f'none, only {there}' if there else 'none'}: name the folder that the photographs lie in."
    )


def _by_name(pairs: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """The files by name. A file that is named twice is one; a link keeps its own name, not that of what it leads to."""
    files: dict[str, Path] = {}
    alike: dict[str, Path] = {}
    for name, path in pairs:
        file = path.parent.resolve() / path.name
        if (other := alike.setdefault(name.casefold(), file)) != file:
            raise DataError(
                f"Images must differ in their names, which name their masks, but {other} and {file} do not: rename "
                f"one, or predict them into two folders."
            )
        files[name] = file
    return files
