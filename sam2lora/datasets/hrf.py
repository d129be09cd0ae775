"""HRF (Budai et al., 2013): 15 healthy, 15 diabetic and 15 glaucomatous eyes, 3504 x 2336, vessels."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, pair_up
from sam2lora.datasets.pairs import Found, Target
from sam2lora.datasets.patients import image_itself
from sam2lora.datasets.published_set import PublishedSet


@choice
class HRF(PublishedSet):
    """``HRF/{images,manual1,mask}``: ``01_dr.JPG``, ``01_dr.tif``, ``01_dr_mask.tif``.

    No official split; ours is that of Orlando et al. (2017): the first five images of each class are the development
    part, the other 30 the test. One image is one patient. Fields of view ship with the set. Only the vessels of
    ``manual1`` are read: one grader, so there is no annotator to choose.
    """

    kind: Literal["hrf"] = "hrf"

    folders: ClassVar[tuple[str, ...]] = ("HRF",)
    title: ClassVar[str] = "HRF"
    target: ClassVar[Target] = "vessel"
    complete: ClassVar[int | None] = 45
    licence: ClassVar[str] = "CC BY 4.0; owned by FAU Erlangen-Nuremberg and the Brno University of Technology"

    def parts(self, base: Path) -> list[Found]:
        masks = {base / "manual1": by_stem(base / "manual1")}
        return [pair_up(by_stem(base / "images"), masks, image_itself, by_stem(base / "mask", suffix="_mask"))]
