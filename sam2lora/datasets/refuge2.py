"""REFUGE2, the challenge of 2020 (Fang et al., 2022): REFUGE1's photographs and others, disc and cup."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import pair_up_part
from sam2lora.datasets.outlines import REFUGE_CODES, coded, read_codes, size, structure
from sam2lora.datasets.pairs import DiscTarget, Entry, Found, Pair
from sam2lora.datasets.patients import image_itself
from sam2lora.datasets.published_set import PublishedSet
from sam2lora.datasets.reading import paired, read_image


@choice
class Refuge2(PublishedSet):
    """``REFUGE2/{train,val,test}/{images,mask}``, the repack that is in use; an image and its mask share their stem.

    Masks: 0 is the cup, 128 the rim, 255 the rest, as in REFUGE1, whose images are part of this set (the two never
    meet as source and target). Ids name their part: ``train/g0001``. ``test`` is the test, ``train`` and ``val`` are
    dealt into folds by a hash of the id. The owners name no patients: one image is one patient. The field of view is
    computed.
    """

    kind: Literal["refuge2"] = "refuge2"
    target: DiscTarget = "disc"

    folders: ClassVar[tuple[str, ...]] = ("REFUGE2",)
    title: ClassVar[str] = "REFUGE2"
    complete: ClassVar[int | None] = 2000
    licence: ClassVar[str] = "research use, on registration with the challenge, as far as known"
    overlaps: ClassVar[frozenset[str]] = frozenset({"refuge1", "refuge2"})

    def parts(self, base: Path) -> list[Found]:
        return [_part(base / part, part) for part in ("train", "val", "test")]

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        image, (file,) = read_image(entry.image), entry.masks
        outline = coded(file, read_codes(file, size(image)), REFUGE_CODES)
        return paired(image, structure([outline], self.target), file)


def _part(base: Path, part: str) -> Found:
    found = pair_up_part(part, base / "images", base / "mask", image_itself)
    split = "test" if part == "test" else "development"
    return replace(found, entries=tuple(replace(entry, split=split) for entry in found.entries))
