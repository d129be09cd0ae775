"""RIM-ONE DL (Fumero Batista et al., 2020): 485 crops from the three releases of RIM-ONE, disc and cup."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, merged, pair_up
from sam2lora.datasets.outlines import nested, size, structure
from sam2lora.datasets.pairs import DiscTarget, Entry, Found, Pair
from sam2lora.datasets.patients import image_itself
from sam2lora.datasets.published_set import PublishedSet
from sam2lora.datasets.reading import paired, read_image, read_mask

_CLASSES = ("glaucoma", "normal")
_IMAGES, _MASKS = "RIM-ONE_DL_images", "RIM-ONE_DL_reference_segmentations"


@choice
class RimOneDL(PublishedSet):
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

    folders: ClassVar[tuple[str, ...]] = ("RIM-ONE DL", "RIM-ONE_DL", "RIM-ONE-DL", _IMAGES)
    title: ClassVar[str] = "RIM-ONE DL"
    complete: ClassVar[int | None] = 485
    licence: ClassVar[str] = "research and education, no redistribution; owned by the University of La Laguna"
    overlaps: ClassVar[frozenset[str]] = frozenset({"rim_one"})

    def parts(self, base: Path) -> list[Found]:
        files = base.parent if base.name.lower() == _IMAGES.lower() else base
        place = files / _IMAGES / f"partitioned_{self.split}"
        training, test = (_of_classes(place / part, "") for part in ("training_set", "test_set"))
        masks = {files / _MASKS / f"*-{what}": _of_classes(files / _MASKS, f"-1-{what}-T") for what in ("Disc", "Cup")}
        found = pair_up(merged(training, test), masks, image_itself)
        entries = (replace(one, split="test" if one.id in test else "development") for one in found.entries)
        return [replace(found, entries=tuple(entries))]

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        image = read_image(entry.image)
        disc, cup = (read_mask(file, size(image)) for file in entry.masks)
        mask = structure([nested(disc, cup, entry.masks[1])], self.target)
        return paired(image, mask, entry.masks[self.target == "cup"], view="crop")


def _of_classes(place: Path, suffix: str) -> dict[str, Path]:
    return merged(*(by_stem(place / name, suffix=suffix) for name in _CLASSES))
