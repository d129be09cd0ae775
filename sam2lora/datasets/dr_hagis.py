"""DR-HAGIS (Holm et al., 2017): 39 photographs of British diabetics with further diseases, five sizes, vessels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import Files, by_stem, folder, gather, pair_up
from sam2lora.datasets.pairs import Entry, Found, Pair, Target
from sam2lora.datasets.reading import read_pair
from sam2lora.datasets.splits import committed

_AGAIN = "32"  # the photograph of number 24, filed under a second disease


@choice
class DRHagis:
    """``DRHAGIS/{Fundus_Images,Manual_Segmentations,Mask_images}``.

    Files ``1.jpg``, ``1_manual_orig.png``, ``1_mask_orig.png``. Numbers 1 to 40 in blocks of ten: glaucoma,
    hypertension, diabetic retinopathy, macular degeneration. Number 32 is the photograph of number 24 once more and is
    left out, so 39 images remain. No official split; ours is that of the Idiap institute, 19 images for development (1
    to 5, 11 to 15, 21 to 25, 31, 33 to 35) and 20 for the test. One image is one patient. Fields of view ship with the
    set.
    """

    kind: Literal["dr_hagis"] = "dr_hagis"

    name: ClassVar[str] = "dr_hagis"
    title: ClassVar[str] = "DR-HAGIS"
    target: ClassVar[Target] = "vessel"
    complete: ClassVar[int | None] = 39
    licence: ClassVar[str] = "free for research as far as known; owned by the University of Manchester"
    overlaps: ClassVar[frozenset[str]] = frozenset({"dr_hagis"})

    def find(self, root: Path | None) -> Found:
        """List the set under ``root``. Raises ``DataError`` when its folder is missing."""
        base = folder(root, ("DRHAGIS", "DR-HAGIS", "DR_HAGIS"), self.title)
        place = base / "Manual_Segmentations"
        images, masks = _files(base / "Fundus_Images"), _files(place, "_manual_orig")
        return gather(
            base, self.title, [pair_up(images, {place: masks}, {}, _files(base / "Mask_images", "_mask_orig"))]
        )

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        return read_pair(entry)

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The committed split of every image id of the complete set."""
        return committed("dr_hagis")


def _files(place: Path, suffix: str = "") -> Files:
    return {identity: path for identity, path in by_stem(place, suffix=suffix).items() if identity != _AGAIN}
