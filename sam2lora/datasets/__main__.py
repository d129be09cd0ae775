"""``python -m sam2lora.datasets ROOT``: what lies under a data root, what is wrong with it and what is absent.

Pairs are counted as found/complete; dev and test are the parts of the committed split.
Every image and mask is decoded; ``--quick`` looks at names only. Exit status 1 if there is a problem or no set at
all. ``--synthetic OUT.png`` draws the procedural hospitals, one a row, and needs no data root.
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

from sam2lora.datasets import DATASETS, DEMO_HOSPITALS, PRETRAINING_HOSPITALS, DrishtiGS1, Source, Synthetic
from sam2lora.datasets.cache import assigned
from sam2lora.datasets.layout import MissingFolderError
from sam2lora.datasets.pairs import Entry, Pixels
from sam2lora.errors import DataError


@dataclass(frozen=True)
class Inspected:
    """One set that is there: its entries, (width, height) of every image read, its splits and its problems."""

    dataset: Source
    entries: tuple[Entry, ...]
    sizes: tuple[tuple[int, int], ...]
    splits: tuple[str, ...]
    problems: tuple[str, ...]


def inspect(dataset: Source, root: Path, quick: bool) -> Inspected:
    """Look a set over. Raises ``MissingFolderError`` when it is absent; any other fault becomes one of its problems."""
    try:
        found = dataset.find(root)
    except MissingFolderError:
        raise
    except DataError as error:
        return Inspected(dataset, (), (), (), (str(error),))
    problems = [str(problem) for problem in found.problems]
    try:
        splits = assigned(dataset, found.entries)
    except DataError as error:
        splits = ()
        problems.append(str(error))
    sizes = []
    console = Console(stderr=True)
    shown = track(found.entries, dataset.title, console=console, transient=True, disable=not console.is_terminal)
    for entry in () if quick else shown:
        try:
            height, width = dataset.read(entry).mask.shape
        except DataError as error:
            problems.append(str(error))
        else:
            sizes.append((width, height))
    return Inspected(dataset, found.entries, tuple(sizes), splits, tuple(problems))


def contact_sheet(images: int = 4, size: int = 256) -> Pixels:
    """The procedural hospitals, (12 * size, images * size, 3): the ones for demos, then those for pretraining."""
    rows = []
    for hospital in (*DEMO_HOSPITALS, *PRETRAINING_HOSPITALS):
        dataset = Synthetic(hospital=hospital, images=images, size=size)
        rows.append(np.hstack([dataset.read(entry).image for entry in dataset.find(Path()).entries]))
    return np.vstack(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the result is its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m sam2lora.datasets", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", type=Path, nargs="?", help="folder that holds the folders of the data sets")
    parser.add_argument("--quick", action="store_true", help="look at names only, decode nothing")
    parser.add_argument("--synthetic", type=Path, metavar="OUT.png", help="draw the procedural hospitals into a file")
    options = parser.parse_args(arguments)
    if options.root is None and options.synthetic is None:
        parser.error("name a data root, or a file for --synthetic")
    if options.synthetic is not None:
        Image.fromarray(contact_sheet()).save(options.synthetic)
    return 0 if options.root is None else _report(options.root, options.quick)


def _report(root: Path, quick: bool) -> int:
    console = Console(soft_wrap=True)
    if not root.is_dir():
        console.print(f"{root}: the data root must be a folder, but it is none: pass the folder of the data sets.")
        return 1
    there: list[Inspected] = []
    absent: list[str] = []
    for dataset in (*DATASETS, DrishtiGS1(copy="1024")):
        try:
            there.append(inspect(dataset, root, quick))
        except MissingFolderError as error:
            absent.append(f"{dataset.name}: looked for {' or '.join(str(root / name) for name in error.names)}")
    if there:
        console.print(_table(there))
    else:
        console.print(f"{root}: the data root must hold a data set, but none was found: unpack one there.")
    _list(console, "Problems", [f"{one.dataset.name}: {problem}" for one in there for problem in one.problems])
    _list(console, "Shared patients: use one of each pair", _overlaps(there))
    _list(console, "Absent", absent)
    licences = {one.dataset.title: one.dataset.licence for one in there}
    _list(console, "Licences, as far as known", [f"{title}: {licence}" for title, licence in licences.items()])
    return 1 if not there or any(one.problems for one in there) else 0


def _table(there: Sequence[Inspected]) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("set", "target", "size"):
        table.add_column(name, no_wrap=True)
    for name in ("pairs", "patients", "dev", "test", "problems"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in there:
        test = one.splits.count("test")
        patients = len({entry.patient for entry in one.entries})
        pairs = f"{len(one.entries)}/{one.dataset.complete or '?'}"
        counts = (pairs, patients, len(one.splits) - test, test, len(one.problems))
        table.add_row(one.dataset.name, one.dataset.target, _size_range(one.sizes), *map(str, counts))
    return table


def _size_range(sizes: Sequence[tuple[int, int]]) -> str:
    if not sizes:
        return "not read"
    smallest, largest = min(sizes), max(sizes)
    text = f"{smallest[0]}x{smallest[1]}"
    return text if smallest == largest else f"{text} to\n{largest[0]}x{largest[1]}"


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
