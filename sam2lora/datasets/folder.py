"""A user's folder: images, masks and, where they are known, fields of view and patients."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Le
from pydantic import AfterValidator

from sam2lora.choice import choice
from sam2lora.datasets.checks import Empty, View
from sam2lora.datasets.layout import MissingFolderError, by_stem, gather, pair_up, without_unpaired
from sam2lora.datasets.levels import Coding, Values
from sam2lora.datasets.listing import folders, is_folder, optional, others
from sam2lora.datasets.pairs import Entry, Found, Pair, Problem, Target, Unpaired, failure
from sam2lora.datasets.patients import by_image, check_parts, image_itself, listed, of_test
from sam2lora.datasets.reading import read_pair
from sam2lora.datasets.splits import dealt
from sam2lora.errors import DataError


def _nameable(path: str) -> str:
    if not _slug(path):
        raise ValueError("must name a folder, with a letter or a digit in it")
    return path


def _pattern(part: str) -> str:
    *places, last = part.split("/")
    if not part or ".." in places or any("{id}" in place for place in places) or last.count("{id}") > 1:
        raise ValueError("must be FOLDER, or FOLDER/NAME with one {id} in NAME, as masks/{id}_manual1")
    return part


Part = Annotated[str, AfterValidator(_pattern)]


def _parseable(values: str) -> str:
    Values.parse(values)
    return values


@choice
class Folder:
    """``PATH/{images,masks}``, one mask per image and of the same name, and optionally ``fov`` and ``patients.csv``.

    ``path`` is absolute or relative to the data root. ``images``, ``masks``, ``fov``: where these lie in it, in either
    case: ``Labels``, or with a rule for the names ``Labels/{id}_manual1``; ``{id}_mask`` alone for files that lie in
    the folder itself. Files of one ``{id}`` belong together. ``label``: the name of the set instead of its path,
    which distinguishes two folders of one name. ``target``: what the masks outline. ``coding``: ``"light"`` for
    black and white masks, ``"index"`` for 0 and one other value. ``view``: ``"crop"`` for pictures of the disc alone,
    whose masks may cover half of them and more; they have no border, so that all of one is its field of view.
    ``empty``: ``"keep"`` admits images without the structure. ``unreadable``: ``"skip"`` leaves out images that cannot
    be read instead of refusing the set; the cache names them, and their contents are in its digest. ``missing``:
    ``"skip"`` leaves out images without a mask and masks without an image. ``tolerate``: by how many pixels the height
    and the width of a mask may differ from those of its image; the mask is cut or padded at the bottom and the right.
    All that is left out or fitted is counted and reported.

    ``parts``: ``"folders"`` reads ``train`` and ``test`` (``training``, ``testing``), each laid out as above; the first
    is dealt into the folds, the second is the test part. Both may count from 1, so an id names its part: ``train/1``.

    ``patients.csv`` has the columns ``image,patient`` or ``image,patient,split`` (``test`` or a fold ``0`` to ``4``)
    and one line for every image; without it one image counts as one patient, which puts two photographs of one person
    on both sides of a split. Without ``split`` patients are dealt, see ``splits.dealt``. Where ``fov`` is absent, the
    field of view of a photograph is computed.

    ``values``, in place of ``coding``: which values of lossless masks are the structure, all others being the rest,
    ``1+2`` by level or palette index, ``ff0000+00ff00`` by colour (arteries and veins, disc and cup in one mask).
    """

    kind: Literal["folder"] = "folder"
    path: Annotated[str, AfterValidator(_nameable)]
    label: str = ""
    images: Part = "images"
    masks: Part = "masks"
    fov: Part = "fov"
    parts: Literal["none", "folders"] = "none"
    target: Target = "vessel"
    coding: Coding = "light"
    values: Annotated[str, AfterValidator(_parseable)] | None = None
    empty: Empty = "refuse"
    view: View = "photograph"
    unreadable: Literal["refuse", "skip"] = "refuse"
    missing: Literal["refuse", "skip"] = "refuse"
    tolerate: Annotated[int, Ge(0), Le(8)] = 0

    complete: ClassVar[int | None] = None
    licence: ClassVar[str] = "that of the photographs: ask their owner"

    @property
    def name(self) -> str:
        """``folder_`` and the label or the path in small letters: of an absolute path the last part."""
        return f"folder_{_slug(self.label) or _slug(self.path)}"

    @property
    def title(self) -> str:
        """The folder as it was written."""
        return f"The folder {self.path}"

    @property
    def overlaps(self) -> frozenset[str]:
        """The path: whatever it is called, a folder holds the same patients."""
        return frozenset({f"the folder {os.path.normpath(self.path)}"})

    def find(self, root: Path | None) -> Found:
        """List the set. Raises ``DataError`` when the folder is missing, or ``path`` is relative and root is None."""
        base = _base(Path(self.path), root, self.title)
        places = {"": base} if self.parts == "none" else _parts(base, self.title)
        found = gather(base, self.title, [self._part(place, part) for part, place in places.items()])
        alone = [problem for problem in found.problems if isinstance(problem, Unpaired)]
        if self.missing == "skip":
            found = without_unpaired(found)
        unpaired = [one for one in found.left_out if one.kind == "unpaired"]
        listing = optional(base, "patients.csv")
        used = {file for entry in found.entries for file in entry.files} | ({listing} if listing else set())
        beside = others({*used, *(one.path for one in unpaired)}, base) if not found.problems else ()
        found = replace(found, skip_unreadable=self.unreadable == "skip", left_out=(*unpaired, *beside))
        known = {problem.id for problem in alone} if unpaired else ()
        if listing is None:
            return found
        found = listed(found, listing, known)
        if self.parts == "folders":
            check_parts(found.entries, listing)
        return found

    def _part(self, base: Path, part: str) -> Found:
        """What lies in one folder. ``part``: its name, if it is one of several, which ids begin with."""
        masks, fovs = _files(base, self.masks), _files(base, self.fov)
        taken = {*masks.values(), *fovs.values()}
        images = {identity: file for identity, file in _files(base, self.images).items() if file not in taken}
        if astray := self._astray(base, images, masks):
            return Found((), (astray,))
        images, masks, fovs = (
            {f"{part}/{identity}" if part else identity: file for identity, file in files.items()}
            for files in (images, masks, fovs)
        )
        shipped = fovs if _place(base, self.fov)[0] is not None or self.fov != "fov" else None
        found = pair_up(images, {_where(base, self.masks): masks}, image_itself, shipped)
        test = "test" if part == "test" else None
        return replace(found, entries=tuple(replace(entry, split=test) for entry in found.entries))

    def _astray(self, base: Path, images: Mapping[str, Path], masks: Mapping[str, Path]) -> Problem | None:
        """Why nothing can be joined, where another name of a folder or of its files would mend it."""
        for what, part, files in (("images", self.images, images), ("masks", self.masks, masks)):
            known = {_where(base, each) for each in (self.images, self.masks, self.fov)}
            there = [place.name for place in folders(base) if place not in known]
            if not files and _place(base, part)[0] is None and len(there) + bool(images or masks) > 1:
                rule = f"{self.title} must hold its {what} in {part}"
                remedy = f"write {what}={_nearest(part.partition('/')[0], there)} if that is meant"
                if self.parts == "none" and all(_named(base, names) for names in _PARTS.values()):
                    remedy = "write parts=folders if these are its development and its test part"
                return Problem(base, rule, f"it holds {', '.join(there[:10])}", remedy)
        if images and masks and images.keys().isdisjoint(masks):
            rule = "a mask must have the name of its image"
            value = f"there are the images {_some(images)} and the masks {_some(masks)}"
            place = self.masks.rpartition("/")[0] if "{id}" in self.masks else self.masks
            remedy = f"write how they are called, as masks={'/'.join(filter(None, (place, _rule(images, masks))))}"
            return Problem(_where(base, self.masks), rule, value, remedy)
        return None

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        coding = self.coding if self.values is None else Values.parse(self.values)
        return read_pair(entry, coding=coding, empty=self.empty, view=self.view, tolerate=self.tolerate)

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The split of every entry: listed, that of its part, or by rule. The folder's name has no part in it."""
        rule = dealt("folder", by_image(entries), of_test(entries) if self.parts == "folders" else None)
        return {entry.id: entry.split or rule[entry.id] for entry in entries}


_PARTS = {"train": ("train", "training"), "test": ("test", "testing")}


def _named(base: Path, names: Collection[str]) -> list[Path]:
    return [place for place in folders(base) if place.name.lower() in names]


def _parts(base: Path, title: str) -> dict[str, Path]:
    """The folders of the development part and of the test part. Raises ``DataError`` unless there is one of each."""
    places = {}
    for part, names in _PARTS.items():
        there = _named(base, names)
        if len(there) != 1:
            rule, seen = f"{title} must hold one folder {' or '.join(names)}", [place.name for place in folders(base)]
            remedy = "keep one of them, leave parts=folders out, or list the splits in patients.csv"
            raise failure(base, rule, f"it holds {', '.join(seen[:10]) or 'none'}", remedy)
        (places[part],) = there
    return places


def _slug(path: str) -> str:
    named = Path(path).name if Path(path).is_absolute() else path
    return re.sub(r"\W+", "_", named).strip("_").lower()


def _place(base: Path, part: str) -> tuple[Path | None, str, str]:
    """The folder that ``part`` means, None where there is none, and what stands before and after the id in a name."""
    named = part if "{id}" not in part else part.rpartition("/")[0]
    before, _, after = part.rpartition("/")[2].partition("{id}") if "{id}" in part else ("", "", "")
    place: Path | None = base
    for name in Path(named).parts:
        place = optional(place, name) if place is not None else None
    return place, before, after


def _where(base: Path, part: str) -> Path:
    """The folder of ``part``, or where it was looked for."""
    return _place(base, part)[0] or base / (part if "{id}" not in part else part.rpartition("/")[0])


def _files(base: Path, part: str) -> dict[str, Path]:
    place, before, after = _place(base, part)
    return by_stem(place, before, after) if place is not None else {}


def _nearest(name: str, there: Sequence[str]) -> str:
    by_lower = {each.lower(): each for each in there}
    near = difflib.get_close_matches(name.lower(), list(by_lower), n=1, cutoff=0.5)
    return by_lower[near[0]] if near else there[0] if len(there) == 1 else "FOLDER"


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:3]) + (" ..." if len(names) > 3 else "")


def _rule(images: Collection[str], masks: Collection[str]) -> str:
    """How masks are called after their images, ``{id}_mask``, if all are called alike."""
    first = min(images)
    for before, _, after in (mask.partition(first) for mask in sorted(masks) if first in mask):
        if sum(f"{before}{image}{after}" in masks for image in images) > len(images) / 2:
            return f"{before}{{id}}{after}"
    return "{id}_mask"


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
