"""IDRiD (Porwal et al., 2018): 81 photographs of an Indian eye clinic with graded lesions, 4288 x 2848, optic disc."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, folder, gather, pair_up
from sam2lora.datasets.pairs import Entry, Found, Pair
from sam2lora.datasets.reading import read_pair
from sam2lora.datasets.splits import committed


@choice
class Idrid:
    """``IDRiD/A. Segmentation``: ``1. Original Images/PART``, ``2. All Segmentation Groundtruths/PART/5. Optic Disc``.

    PART is ``a. Training Set`` or ``b. Testing Set``, files are ``IDRiD_01.jpg`` and ``IDRiD_01_OD.tif``. The archive
    unpacks as ``A. Segmentation``, which may also lie in the root itself. The owners' split is 54 and 27
    images. Masks are palette images, red on black: any index above 0 is disc; there are no cups. One image is one
    patient. The field of view is computed.
    """

    kind: Literal["idrid"] = "idrid"
    target: Literal["disc"] = "disc"

    name: ClassVar[str] = "idrid"
    title: ClassVar[str] = "IDRiD"
    complete: ClassVar[int | None] = 81
    licence: ClassVar[str] = "CC BY 4.0; owned by SGGS Institute, Nanded"
    overlaps: ClassVar[frozenset[str]] = frozenset({"idrid"})

    def find(self, root: Path | None) -> Found:
        """List the set under ``root``. Raises ``DataError`` when its folder is missing."""
        base = folder(root, ("IDRiD", "A. Segmentation"), self.title)
        inner = base / "A. Segmentation"
        files = inner if inner.is_dir() else base
        parts = [_part(files, part) for part in ("a. Training Set", "b. Testing Set")]
        return gather(base, self.title, parts)

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        return read_pair(entry, coding="index")

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The committed split of every image id of the complete set."""
        return committed("idrid")


def _part(files: Path, part: str) -> Found:
    truth = files / "2. All Segmentation Groundtruths" / part / "5. Optic Disc"
    images = by_stem(files / "1. Original Images" / part)
    return pair_up(images, {truth: by_stem(truth, suffix="_OD")}, {})
