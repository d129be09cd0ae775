"""FIVES (Jin et al., 2022): 200 photographs each of AMD, diabetes, glaucoma and normal eyes, 2048 x 2048, vessels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, folder, gather, pair_up
from sam2lora.datasets.pairs import Entry, Found, Pair, Target
from sam2lora.datasets.reading import read_pair
from sam2lora.datasets.splits import committed

_FOLDERS = ("FIVES", "FIVES A Fundus Image Dataset for AI-based Vessel Segmentation")


@choice
class Fives:
    """``FIVES/{train,test}/{Original,Ground truth}/1_A.png``, the owners' split into 600 and 200 images.

    Both parts count from 1, so an id names its part: ``train/1_A``. One mask per image, agreed upon by the graders.
    The 800 images are of 573 patients whom the owners do not name: one image counts as one patient, and folds of the
    development part may share some. The field of view is computed.
    """

    kind: Literal["fives"] = "fives"

    name: ClassVar[str] = "fives"
    title: ClassVar[str] = "FIVES"
    target: ClassVar[Target] = "vessel"
    complete: ClassVar[int | None] = 800
    licence: ClassVar[str] = "CC BY 4.0 as far as known; owned by Zhejiang University"
    overlaps: ClassVar[frozenset[str]] = frozenset({"fives"})

    def find(self, root: Path | None) -> Found:
        """List the set under ``root``. Raises ``DataError`` when its folder is missing."""
        base = folder(root, _FOLDERS, self.title)
        return gather(base, self.title, [_part(base / part, part) for part in ("train", "test")])

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        return read_pair(entry)

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The committed split of every image id of the complete set."""
        return committed("fives")


def _part(base: Path, part: str) -> Found:
    images, masks = (
        {f"{part}/{stem}": path for stem, path in by_stem(base / place).items()}
        for place in ("Original", "Ground truth")
    )
    return pair_up(images, {base / "Ground truth": masks}, {})
