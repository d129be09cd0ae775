"""RIM-ONE DL (Fumero Batista et al., 2020): 485 crops from the three releases of RIM-ONE, disc and cup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, folder, gather, merged, pair_up
from sam2lora.datasets.outlines import crop, nested, size, structure
from sam2lora.datasets.pairs import DiscTarget, Entry, Found, Pair
from sam2lora.datasets.reading import read_image, read_mask
from sam2lora.datasets.splits import dealt

_CLASSES = ("glaucoma", "normal")
_IMAGES, _MASKS = "RIM-ONE_DL_images", "RIM-ONE_DL_reference_segmentations"


@choice
class RimOneDL:
    """``RIM-ONE_DL_images/partitioned_*/{training_set,test_set}/{glaucoma,normal}`` and the segmentations beside it.

    ``split``: which of the owners' two partitions of the same images; ``"by_hospital"`` tests on hospitals that the
    training set does not know, ``"randomly"`` mixes them. The training set is dealt into folds by a hash of the id.
    Masks are ``RIM-ONE_DL_reference_segmentations/*/r1_Im001-1-{Disc,Cup}-T.png``; a cup that leaves the disc widens
    it. One image is one patient, as no patients are named. All of a crop is its field of view. Both folders may lie in
    ``RIM-ONE DL`` or in the root itself. The images of RIM-ONE r3 are among these.
    """

    kind: Literal["rim_one_dl"] = "rim_one_dl"
    target: DiscTarget = "disc"
    split: Literal["randomly", "by_hospital"] = "randomly"

    name: ClassVar[str] = "rim_one_dl"
    title: ClassVar[str] = "RIM-ONE DL"
    complete: ClassVar[int | None] = 485
    licence: ClassVar[str] = "research and education, no redistribution; owned by the University of La Laguna"
    overlaps: ClassVar[frozenset[str]] = frozenset({"rim_one"})

    def find(self, root: Path | None) -> Found:
        """List the set under ``root``. Raises ``DataError`` when its folder is missing."""
        base = folder(root, ("RIM-ONE DL", "RIM-ONE_DL", "RIM-ONE-DL", _IMAGES), self.title)
        files = base.parent if base.name.lower() == _IMAGES.lower() else base
        place = files / _IMAGES / f"partitioned_{self.split}"
        training, test = (_of_classes(place / part, "") for part in ("training_set", "test_set"))
        masks = {files / _MASKS / f"*-{what}": _of_classes(files / _MASKS, f"-1-{what}-T") for what in ("Disc", "Cup")}
        found = gather(base, self.title, [pair_up(merged(training, test), masks, {})])
        entries = (replace(one, split="test" if one.id in test else "development") for one in found.entries)
        return replace(found, entries=tuple(entries))

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        image = read_image(entry.image)
        disc, cup = (read_mask(file, size(image)) for file in entry.masks)
        mask = structure([nested(disc, cup, entry.masks[1])], self.target)
        return crop(image, mask, entry.masks[self.target == "cup"])

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The owners' test set, and the training set in folds."""
        test = [entry.patient for entry in entries if entry.split == "test"]
        return dealt("rim_one_dl", {entry.id: entry.patient for entry in entries}, test)


def _of_classes(place: Path, suffix: str) -> dict[str, Path]:
    return merged(*(by_stem(place / name, suffix=suffix) for name in _CLASSES))
