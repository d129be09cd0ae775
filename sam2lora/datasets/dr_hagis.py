"""DR-HAGIS (Holm et al., 2017): 39 photographs of British diabetics with further diseases, five sizes, vessels."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import Files, by_stem, pair_up
from sam2lora.datasets.pairs import Found, Target
from sam2lora.datasets.patients import image_itself
from sam2lora.datasets.published_set import PublishedSet

_AGAIN = "32"  # the photograph of number 24, filed under a second disease


@choice
class DRHagis(PublishedSet):
    """``DRHAGIS/{Fundus_Images,Manual_Segmentations,Mask_images}``.

    Files ``1.jpg``, ``1_manual_orig.png``, ``1_mask_orig.png``. Numbers 1 to 40 in blocks of ten: glaucoma,
    hypertension, diabetic retinopathy, macular degeneration. Number 32 is the photograph of number 24 once more and is
    left out, so 39 images remain. No official split; ours is that of the Idiap institute, 19 images for development (1
    to 5, 11 to 15, 21 to 25, 31, 33 to 35) and 20 for the test. One image is one patient. Fields of view ship with the
    set.
    """

    kind: Literal["dr_hagis"] = "dr_hagis"

    folders: ClassVar[tuple[str, ...]] = ("DRHAGIS", "DR-HAGIS", "DR_HAGIS")
    title: ClassVar[str] = "DR-HAGIS"
    target: ClassVar[Target] = "vessel"
    complete: ClassVar[int | None] = 39
    licence: ClassVar[str] = "free for research as far as known; owned by the University of Manchester"

    def parts(self, base: Path) -> list[Found]:
        place = base / "Manual_Segmentations"
        images, masks = _files(base / "Fundus_Images"), _files(place, "_manual_orig")
        return [pair_up(images, {place: masks}, image_itself, _files(base / "Mask_images", "_mask_orig"))]


def _files(place: Path, suffix: str = "") -> Files:
    return {identity: path for identity, path in by_stem(place, suffix=suffix).items() if identity != _AGAIN}
