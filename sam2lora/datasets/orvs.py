"""ORVS (Sarhan et al., 2020): 49 photographs of a clinic in Calgary, 1444 x 1444, vessels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, folder, gather, pair_up
from sam2lora.datasets.pairs import Entry, Found, Pair, Target
from sam2lora.datasets.reading import read_pair
from sam2lora.datasets.splits import dealt


@choice
class Orvs:
    """``ORVS/{Train,Test}/Original/{Images,Labels}``, the same name in both; an id names its part: ``train/1``.

    Masks are JPEG: what is lighter than 127 is vessel. The test part is the folder ``Test``, the images of ``Train``
    are dealt into the folds, see ``splits.dealt``. The owners write of 42 and 7 images and distribute 41 and 8: the
    folders decide. They name no patients: one image counts as one patient. The field of view is computed. The folders
    of other sets beside it in the owners' repository are compressed copies and are not read.
    """

    kind: Literal["orvs"] = "orvs"

    name: ClassVar[str] = "orvs"
    title: ClassVar[str] = "ORVS"
    target: ClassVar[Target] = "vessel"
    complete: ClassVar[int | None] = 49
    licence: ClassVar[str] = "none stated; owned by the University of Calgary"
    overlaps: ClassVar[frozenset[str]] = frozenset({"orvs"})

    def find(self, root: Path | None) -> Found:
        """List the set under ``root``. Raises ``DataError`` when its folder is missing."""
        base = folder(root, ("ORVS",), self.title)
        return gather(base, self.title, [_part(base / part, part.lower()) for part in ("Train", "Test")])

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        return read_pair(entry)

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The split of every entry: the owners' test part, the others by rule."""
        test = {entry.patient for entry in entries if entry.id.startswith("test/")}
        return dealt(self.name, {entry.id: entry.patient for entry in entries}, test)


def _part(base: Path, part: str) -> Found:
    images, masks = (
        {f"{part}/{stem}": path for stem, path in by_stem(base / "Original" / place).items()}
        for place in ("Images", "Labels")
    )
    return pair_up(images, {base / "Original" / "Labels": masks}, {})
