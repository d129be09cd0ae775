"""AV-WIDE (Estrada et al., 2015): 30 ultra-wide images of an Optos camera, about 1400 x 900, vessels."""

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
class AVWide:
    """``AV-WIDE``: ``wide_image_01.png`` and ``wide_image_01_vessels.png`` in one folder; others are passed over.

    Every image is of another person and of another size. No official split: patients are dealt, see
    ``splits.dealt``. The field of view is computed; it follows the lids of the eye.
    """

    kind: Literal["av_wide"] = "av_wide"

    name: ClassVar[str] = "av_wide"
    title: ClassVar[str] = "AV-WIDE"
    target: ClassVar[Target] = "vessel"
    complete: ClassVar[int | None] = 30
    licence: ClassVar[str] = "unclear: ask its owners, Duke University"
    overlaps: ClassVar[frozenset[str]] = frozenset({"av_wide"})

    def find(self, root: Path | None) -> Found:
        """List the set under ``root``. Raises ``DataError`` when its folder is missing."""
        base = folder(root, ("AV-WIDE", "AV_WIDE", "AVWIDE"), self.title)
        every = by_stem(base, prefix="wide_image_")
        images = {identity: path for identity, path in every.items() if identity.isdigit()}
        masks = by_stem(base, prefix="wide_image_", suffix="_vessels")
        return gather(base, self.title, [pair_up(images, {base / "wide_image_*_vessels": masks}, {})])

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        return read_pair(entry)

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The split of every entry, by rule."""
        return dealt(self.name, {entry.id: entry.patient for entry in entries})
