"""ARIA (Farnell et al., 2008): 143 photographs, macular degeneration, diabetes and healthy, 768 x 576, vessels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import Files, by_stem, pair_up, renamed
from sam2lora.datasets.pairs import Found, Target
from sam2lora.datasets.patients import image_itself
from sam2lora.datasets.published_set import PublishedSet

_GRADERS = {"first": ("BDP",), "second": ("BSS",)}


@choice
class Aria(PublishedSet):
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

    folders: ClassVar[tuple[str, ...]] = ("ARIA",)
    title: ClassVar[str] = "ARIA"
    target: ClassVar[Target] = "vessel"
    complete: ClassVar[int | None] = 143
    licence: ClassVar[str] = "unclear: ask its owners, St Paul's Eye Unit and the University of Liverpool"

    def parts(self, base: Path) -> list[Found]:
        graders = _GRADERS.get(self.annotator, ("BDP", "BSS"))
        return [_part(base, letter, graders) for letter in "acd"]


def _part(base: Path, letter: str, graders: Sequence[str]) -> Found:
    images = _files(base / f"aria_{letter}_markups", letter)
    place = base / f"aria_{letter}_markup_vessel"
    masks = {place / f"*_{grader}": _files(place, letter, f"_{grader}") for grader in graders}
    return pair_up(images, masks, image_itself)


def _files(place: Path, letter: str, suffix: str = "") -> Files:
    inner = place / place.name
    files = by_stem(inner if inner.is_dir() else place, suffix=suffix)
    return renamed(files, lambda stem: f"{letter}/{re.sub(r'^[(][0-9]+[)] *', '', stem)}")
