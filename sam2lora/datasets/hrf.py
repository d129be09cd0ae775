"""HRF (Budai et al., 2013): 15 healthy, 15 diabetic and 15 glaucomatous eyes, 3504 x 2336, vessels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, folder, gather, pair_up
from sam2lora.datasets.pairs import Entry, Found, Pair, Target
from sam2lora.datasets.reading import read_pair
from sam2lora.datasets.splits import committed


@choice
class HRF:
    """``HRF/{images,manual1,mask}``: ``01_dr.JPG``, ``01_dr.tif``, ``01_dr_mask.tif``.

    No official split; ours is that of Orlando et al. (2017): the first five images of each class are the development
    part, the other 30 the test. One image is one patient. Fields of view ship with the set. Only the vessels of
    ``manual1`` are read: one grader, so there is no annotator to choose.
    """

    kind: Literal["hrf"] = "hrf"

    name: ClassVar[str] = "hrf"
    title: ClassVar[str] = "HRF"
    target: ClassVar[Target] = "vessel"
    complete: ClassVar[int | None] = 45
    licence: ClassVar[str] = "CC BY 4.0; owned by FAU Erlangen-Nuremberg and the Brno University of Technology"
    overlaps: ClassVar[frozenset[str]] = frozenset({"hrf"})

    def find(self, root: Path | None) -> Found:
        """List the set under ``root``. Raises ``DataError`` when its folder is missing."""
        base = folder(root, ("HRF",), self.title)
        masks = {base / "manual1": by_stem(base / "manual1")}
        found = pair_up(by_stem(base / "images"), masks, {}, by_stem(base / "mask", suffix="_mask"))
        return gather(base, self.title, [found])

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        return read_pair(entry)

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The committed split of every image id of the complete set."""
        return committed("hrf")
