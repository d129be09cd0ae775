"""STARE (Hoover et al., 2000): 20 photographs, 10 of them with pathology, 700 x 605, vessels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, folder, gather, pair_up
from sam2lora.datasets.pairs import Entry, Found, Pair, Target
from sam2lora.datasets.reading import read_pair
from sam2lora.datasets.splits import committed

_GRADERS = {"first": ("ah",), "second": ("vk",)}


@choice
class Stare:
    """``STARE/{stare-images,labels-ah,labels-vk}``, files ``.ppm`` or ``.ppm.gz``.

    ``annotator``: ``"first"`` is Adam Hoover (ah), ``"second"`` is Valentina Kouznetsova (vk). No official split; ours
    is that of Maninis et al. (2016): the first ten images are the development part, the last ten the test. One image
    is one patient. The field of view is computed.
    """

    kind: Literal["stare"] = "stare"
    annotator: Literal["first", "second", "union", "intersection"] = "first"

    name: ClassVar[str] = "stare"
    title: ClassVar[str] = "STARE"
    target: ClassVar[Target] = "vessel"
    complete: ClassVar[int | None] = 20
    licence: ClassVar[str] = "free for research; its owners (Clemson University) state no licence"
    overlaps: ClassVar[frozenset[str]] = frozenset({"stare"})

    def find(self, root: Path | None) -> Found:
        """List the set under ``root``. Raises ``DataError`` when its folder is missing."""
        base = folder(root, ("STARE",), self.title)
        graders = _GRADERS.get(self.annotator, ("ah", "vk"))
        places = {grader: base / f"labels-{grader}" for grader in graders}
        masks = {place: by_stem(place, suffix=f".{grader}") for grader, place in places.items()}
        return gather(base, self.title, [pair_up(by_stem(base / "stare-images"), masks, {})])

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        return read_pair(entry, self.annotator)

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The committed split of every image id of the complete set."""
        return committed("stare")
