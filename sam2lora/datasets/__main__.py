"""``python -m sam2lora.datasets ROOT``: list the data sets under a data root, their faults, and absent sets.

The table counts the pairs of image and mask as found/complete (? for a user's folder), the patients, the images of the
development part and of the test part, and the faults as missing or left over/of another size/unreadable. The faults
follow below it with their remedies, and so do other contents of the folders (hidden files, other suffixes, folders).
Every image and mask is decoded; ``--quick`` checks names only. ``--synthetic OUT.png`` draws the procedural hospitals,
one per row, and needs no data root. Exit status 1 if a set has a problem or if there is no set.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import track
from rich.table import Table

from sam2lora.cli.options import path_option
from sam2lora.cli.parser import Parser
from sam2lora.datasets import (
    DATASETS,
    DEMO_HOSPITALS,
    PRETRAINING_HOSPITALS,
    DrishtiGS1,
    Source,
    Synthetic,
    parse_dataset,
)
from sam2lora.datasets.cache import assigned
from sam2lora.datasets.layout import MissingFolderError
from sam2lora.datasets.listing import folders, is_folder, summary
from sam2lora.datasets.pairs import Entry, LeftOut, Pixels, WrongSizeError
from sam2lora.errors import DataError

_LEGEND = (
    "pairs: found/complete set (? for a user's folder); patients: as far as known; dev, test: images of each part of "
    "the split; faults: files missing or left over/of another size/unreadable"
)


@dataclass(frozen=True)
class Inspected:
    """One set that is there: its entries, (width, height) of every image read, its splits and what is wrong with it.

    ``layout``: what is missing or left over; ``wrong_size`` and ``unreadable``: entries that cannot be read.
    ``skips``: whether such entries are left out of the set, which is no problem then. ``left_out``: what lies in the
    folders of the set and is no part of it.
    """

    dataset: Source
    entries: tuple[Entry, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    splits: tuple[str, ...] = ()
    layout: tuple[str, ...] = ()
    wrong_size: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()
    skips: bool = False
    left_out: tuple[LeftOut, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the set cannot be used, one text each."""
        return self.layout if self.skips else (*self.layout, *self.wrong_size, *self.unreadable)

    @property
    def gone(self) -> tuple[str, ...]:
        """What was left out as requested, one text each."""
        alone = [f"{one.path}: it is unpaired" for one in self.left_out if one.kind == "unpaired"]
        return (*((*self.wrong_size, *self.unreadable) if self.skips else ()), *alone)


def inspect(dataset: Source, root: Path, quick: bool) -> Inspected:
    """Inspect a data set. Raises ``MissingFolderError`` when it is absent; other faults become problems of the set."""
    try:
        found = dataset.find(root)
    except MissingFolderError:
        raise
    except DataError as error:
        return Inspected(dataset, layout=(str(error),))
    layout = [str(problem) for problem in found.problems]
    try:
        splits = assigned(dataset, found.entries)
    except DataError as error:
        splits = ()
        layout.append(str(error))
    sizes, wrong_size, unreadable = _decoded(dataset, () if quick else found.entries)
    skips, beside = found.skip_unreadable, found.left_out
    return Inspected(dataset, found.entries, sizes, splits, tuple(layout), wrong_size, unreadable, skips, beside)


def _decoded(
    dataset: Source, entries: Sequence[Entry]
) -> tuple[tuple[tuple[int, int], ...], tuple[str, ...], tuple[str, ...]]:
    """(width, height) of every entry that can be read, and why the others cannot: wrong in size, or otherwise."""
    sizes, wrong_size, unreadable = [], [], []
    console = Console(stderr=True)
    for entry in track(entries, dataset.title, console=console, transient=True, disable=not console.is_terminal):
        try:
            height, width = dataset.read(entry).mask.shape
        except WrongSizeError as error:
            wrong_size.append(str(error))
        except DataError as error:
            unreadable.append(str(error))
        else:
            sizes.append((width, height))
    return tuple(sizes), tuple(wrong_size), tuple(unreadable)


def contact_sheet(images: int = 4, size: int = 256) -> Pixels:
    """The procedural hospitals, (12 * size, images * size, 3): the ones for demos, then those for pretraining."""
    rows = []
    for hospital in (*DEMO_HOSPITALS, *PRETRAINING_HOSPITALS):
        dataset = Synthetic(hospital=hospital, images=images, size=size)
        rows.append(np.hstack([dataset.read(entry).image for entry in dataset.find(Path()).entries]))
    return np.vstack(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the result is its exit status."""
    parser = Parser(
        prog="python -m sam2lora.datasets", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=path_option, nargs="?", help="folder that holds the folders of the data sets")
    parser.add_argument(
        "--set",
        action="append",
        metavar="NAME[:FIELD=VALUE]...",
        help="check only this set, for instance folder:path=clinic:target=disc; may be repeated",
    )
    parser.add_argument("--quick", action="store_true", help="check names only, decode nothing")
    parser.add_argument(
        "--synthetic", type=path_option, metavar="OUT.png", help="draw the procedural hospitals into a file"
    )
    options = parser.parse_args(arguments)
    if options.root is None and options.synthetic is None:
        parser.error("name a data root, or a file for --synthetic")
    if options.synthetic is not None:
        Image.fromarray(contact_sheet()).save(options.synthetic)
    if options.root is None:
        return 0
    console = Console(soft_wrap=True)
    try:
        chosen = tuple(parse_dataset(text) for text in options.set or ())
        return _report(console, options.root, chosen, options.quick)
    except DataError as error:
        console.print(str(error), markup=False, highlight=False)
        return 1


def _report(console: Console, root: Path, chosen: Sequence[Source], quick: bool) -> int:
    if not is_folder(root):
        console.print(f"{root}: the data root must be a folder, but it is none: pass the folder of the data sets.")
        return 1
    there: list[Inspected] = []
    absent: list[str] = []
    for dataset in chosen or (*DATASETS, DrishtiGS1(copy="1024")):
        try:
            there.append(inspect(dataset, root, quick))
        except MissingFolderError as error:
            absent.append(f"{dataset.name}: looked for {' or '.join(str(root / name) for name in error.names)}")
    if there:
        console.print(_table(there))
        console.print(_LEGEND, style="dim", highlight=False)
    else:
        console.print(f"{root}: the data root must hold a data set, but none was found: unpack one there.")
    _list(console, "Problems", [f"{one.dataset.name}: {problem}" for one in there for problem in one.problems])
    beside = {one.dataset.name: summary(gone for gone in one.left_out if gone.kind != "unpaired") for one in there}
    lines = [f"{name}: {text}" for name, text in beside.items() if text]
    _list(console, "Ignored in the folders: no part of the set", lines)
    _list(console, "Left out as requested", [f"{one.dataset.name}: {text}" for one in there for text in one.gone])
    _list(console, "Shared patients: use one of each pair", _overlaps(there))
    _list(console, "Absent", absent)
    _list(console, "Folders of no known set", [] if chosen else _unclaimed(root, there))
    licences = {one.dataset.title: one.dataset.licence for one in there}
    _list(console, "Licences, as far as known", [f"{title}: {licence}" for title, licence in licences.items()])
    missed = bool(chosen and absent)
    return 1 if not there or missed or any(one.problems for one in there) else 0


def _table(there: Sequence[Inspected]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("set", overflow="fold")  # cut, two long names could be one
    for name in ("target", "size"):
        table.add_column(name, no_wrap=True)
    for name in ("pairs", "patients", "dev", "test", "faults"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in there:
        test = one.splits.count("test")
        patients = len({entry.patient for entry in one.entries})
        pairs = f"{len(one.entries)}/{one.dataset.complete or '?'}"
        wrong = f"{len(one.layout)}/{len(one.wrong_size)}/{len(one.unreadable)}"
        counts = (pairs, patients, len(one.splits) - test, test, wrong)
        table.add_row(one.dataset.name, one.dataset.target, _size_range(one.sizes), *map(str, counts))
    return table


def _size_range(sizes: Sequence[tuple[int, int]]) -> str:
    if not sizes:
        return "not read"
    smallest, largest = min(sizes), max(sizes)
    text = f"{smallest[0]}x{smallest[1]}"
    return text if smallest == largest else f"{text} to\n{largest[0]}x{largest[1]}"


def _unclaimed(root: Path, there: Sequence[Inspected]) -> list[str]:
    """Folders laid out like a set of one's own, of which no published set has read a file."""
    used = {folder for one in there for entry in one.entries for folder in entry.image.parents}
    free = [path for path in folders(root) if path not in used]
    own = {path.name: "" for path in free if _holds_pairs(path)}
    own |= {
        path.name: ":parts=folders" for path in free if _holds_pairs(path / "train") and _holds_pairs(path / "test")
    }
    return [f"{name}: look at it with --set folder:path={name}{parts}" for name, parts in own.items()]


def _holds_pairs(path: Path) -> bool:
    try:
        return all(is_folder(path / part) for part in ("images", "masks"))
    except DataError:  # a closed folder that no set asks for
        return False


def _overlaps(there: Sequence[Inspected]) -> list[str]:
    pairs = combinations([one.dataset for one in there], 2)
    return [f"{left.name} and {right.name}" for left, right in pairs if left.overlaps & right.overlaps]


def _list(console: Console, title: str, lines: Sequence[str]) -> None:
    if lines:
        console.print(f"\n[bold]{title}[/bold]")
        for line in lines:
            console.print(f"  {line}", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
