"""ARIA (Farnell et al., 2008): 143 photographs, macular degeneration, diabetes and healthy, 768 x 576, vessels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import Files, by_stem, folder, gather, pair_up, renamed
from sam2lora.datasets.pairs import Entry, Found, Pair, Target
from sam2lora.datasets.reading import read_pair
from sam2lora.datasets.splits import dealt

_GRADERS = {"first": ("BDP",), "second": ("BSS",)}


@choice
class Aria:
    """``ARIA/aria_{a,c,d}_markups/NAME.tif`` and ``ARIA/aria_{a,c,d}_markup_vessel/NAME_{BDP,BSS}.tif``.

    One pair of folders for each of macular degeneration (a), healthy (c) and diabetes (d); an archive's folder within
    the folder of its name serves as well, and a class that is absent is no problem. ``annotator``: the owners rank
    none of the two; ``"first"`` is BDP, ``"second"`` is BSS. The owners' site is gone and the names of the files were
    not seen, so this is assumed: an image and its masks share their name but for the grader and a count in brackets
    before it (``(0001)``), and masks are black and white; every other mask is refused, not guessed at. An id names its
    class: ``a/NAME``. No official split and no named patients: one image counts as one patient, and they are dealt,
    see ``splits.dealt``. The field of view is computed.
    """

    kind: Literal["aria"] = "aria"
    annotator: Literal["first", "second", "union", "intersection"] = "first"

    name: ClassVar[str] = "aria"
    title: ClassVar[str] = "ARIA"
    target: ClassVar[Target] = "vessel"
    complete: ClassVar[int | None] = 143
    licence: ClassVar[str] = "unclear: ask its owners, St Paul's Eye Unit and the University of Liverpool"
    overlaps: ClassVar[frozenset[str]] = frozenset({"aria"})

    def find(self, root: Path | None) -> Found:
        """List the set under ``root``. Raises ``DataError`` when its folder is missing."""
        base = folder(root, ("ARIA",), self.title)
        graders = _GRADERS.get(self.annotator, ("BDP", "BSS"))
        return gather(base, self.title, [_part(base, letter, graders) for letter in "acd"])

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        return read_pair(entry, self.annotator)

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The split of every entry, by rule."""
        return dealt(self.name, {entry.id: entry.patient for entry in entries})


def _part(base: Path, letter: str, graders: Sequence[str]) -> Found:
    images = _files(base / f"aria_{letter}_markups", letter)
    place = base / f"aria_{letter}_markup_vessel"
    return pair_up(images, {place / f"*_{grader}": _files(place, letter, f"_{grader}") for grader in graders}, {})


def _files(place: Path, letter: str, suffix: str = "") -> Files:
    inner = place / place.name
    files = by_stem(inner if inner.is_dir() else place, suffix=suffix)
    return renamed(files, lambda stem: f"{letter}/{re.sub(r'^[(][0-9]+[)] *', '', stem)}")
