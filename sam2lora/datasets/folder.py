"""A folder of one's own: images, masks and, where they are known, fields of view and patients."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator

from sam2lora.choice import choice
from sam2lora.datasets.layout import MissingFolderError, by_stem, gather, pair_up
from sam2lora.datasets.levels import Coding, Values
from sam2lora.datasets.listing import is_folder, optional, others
from sam2lora.datasets.pairs import Entry, Found, Pair, Problem, Target, failure
from sam2lora.datasets.reading import Empty, View, read_pair
from sam2lora.datasets.splits import dealt, read_listing
from sam2lora.errors import DataError


def _nameable(path: str) -> str:
    if not _slug(path):
        raise ValueError("must name a folder, with a letter or a digit in it")
    return path


def _parseable(values: str) -> str:
    Values.parse(values)
    return values


@choice
class Folder:
    """``PATH/{images,masks}``, one mask per image and of the same name, and optionally ``fov`` and ``patients.csv``.

    ``path`` is absolute or relative to the data root. ``target``: what the masks outline. ``coding``: ``"light"`` for
    black and white masks, ``"index"`` for 0 and one other value. ``view``: ``"crop"`` for pictures of the disc alone,
    whose masks may cover half of them and more; they have no border, so that all of one is its field of view.
    ``empty``: ``"keep"`` admits images without the structure. ``unreadable``: ``"skip"`` leaves out images that cannot
    be read instead of refusing the set; the cache names them, and their contents are in its digest. ``patients.csv``
    has the columns ``image,patient`` or ``image,patient,split`` (``test`` or a fold ``0`` to ``4``) and one line for
    every image; without it one image counts as one patient, which puts two photographs of one person on both sides of a
    split. Without ``split`` patients are dealt, see ``splits.dealt``. Where ``fov`` is absent, the field of view of a
    photograph is computed.

    ``values``, in place of ``coding``: which values of lossless masks are the structure, all others being the rest,
    ``1+2`` by level or palette index, ``ff0000+00ff00`` by colour (arteries and veins, disc and cup in one mask).
    """

    kind: Literal["folder"] = "folder"
    path: Annotated[str, AfterValidator(_nameable)]
    target: Target = "vessel"
    coding: Coding = "light"
    values: Annotated[str, AfterValidator(_parseable)] | None = None
    empty: Empty = "refuse"
    view: View = "photograph"
    unreadable: Literal["refuse", "skip"] = "refuse"

    complete: ClassVar[int | None] = None
    licence: ClassVar[str] = "your own: ask whoever owns the photographs"

    @property
    def name(self) -> str:
        """``folder_`` and the path in small letters: all of a relative path, the last part of an absolute one."""
        return f"folder_{_slug(self.path)}"

    @property
    def title(self) -> str:
        """The folder as it was written."""
        return f"The folder {self.path}"

    @property
    def overlaps(self) -> frozenset[str]:
        """Its name: two folders of one name are taken for one, so that they cannot be told apart by mistake."""
        return frozenset({self.name})

    def find(self, root: Path | None) -> Found:
        """List the set. Raises ``DataError`` when the folder is missing, or ``path`` is relative and root is None."""
        base = _base(Path(self.path), root, self.title)
        fov, patients = optional(base, "fov"), optional(base, "patients.csv")
        fovs = by_stem(fov) if fov is not None else None
        images = by_stem(base / "images")
        found = gather(base, self.title, [pair_up(images, {base / "masks": by_stem(base / "masks")}, {}, fovs)])
        used = {file for entry in found.entries for file in entry.files} | ({patients} if patients else set())
        beside = others(used, base) if not found.problems else ()
        found = replace(found, skip_unreadable=self.unreadable == "skip", left_out=beside)
        return _listed(found, patients) if patients is not None else found

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        coding = self.coding if self.values is None else Values.parse(self.values)
        return read_pair(entry, coding=coding, empty=self.empty, view=self.view)

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The split of every entry: that of ``patients.csv``, or by rule. The folder's name has no part in it."""
        rule = dealt("folder", {entry.id: entry.patient for entry in entries})
        return {entry.id: entry.split or rule[entry.id] for entry in entries}


def _slug(path: str) -> str:
    named = Path(path).name if Path(path).is_absolute() else path
    return re.sub(r"\W+", "_", named).strip("_").lower()


def _base(path: Path, root: Path | None, title: str) -> Path:
    if root is None and not path.is_absolute():
        raise DataError(
            f"{title} must be read from a data root, but none was named: name one, with --data on a command line, or "
            f"write the whole path."
        )
    base = path if root is None else root / path
    if not is_folder(base):
        remedy = "write the path of a folder that holds images and masks"
        raise MissingFolderError(Problem(base, f"{title} must be a folder", "there is none", remedy), (str(path),))
    return base


def _listed(found: Found, listing: Path) -> Found:
    """The patients and splits of the listing, which must name the images that are there and no others."""
    table = read_listing(listing)
    entries = found.entries
    absent = sorted(set(table) - {entry.id for entry in entries})
    unlisted = sorted({entry.id for entry in entries} - set(table))
    if unlisted:
        remedy = "add a line for each, without the ending of the file"
        raise failure(listing, "every image must have a line", f"{', '.join(unlisted[:5])} have none", remedy)
    if absent and not found.problems:
        rule, value = "every line must name an image", f"there is no image {', '.join(absent[:5])}"
        raise failure(listing, rule, value, "remove these lines, or add the images")
    people = tuple(replace(entry, patient=table[entry.id][0], split=table[entry.id][1]) for entry in entries)
    return replace(found, entries=people)
