"""FIVES (Jin et al., 2022): 200 photographs each of AMD, diabetes, glaucoma and normal eyes, 2048 x 2048, vessels."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import pair_up_part
from sam2lora.datasets.pairs import Found, Target
from sam2lora.datasets.patients import image_itself
from sam2lora.datasets.published_set import PublishedSet


@choice
class Fives(PublishedSet):
    """``FIVES/{train,test}/{Original,Ground truth}/1_A.png``, the owners' split into 600 and 200 images.

    Both parts count from 1, so an id names its part: ``train/1_A``. One mask per image, agreed upon by the graders.
    The 800 images are of 573 patients whom the owners do not name: one image counts as one patient, and folds of the
    development part may share some. The field of view is computed.
    """

    kind: Literal["fives"] = "fives"

    folders: ClassVar[tuple[str, ...]] = (
        "FIVES",
        "FIVES A Fundus Image Dataset for AI-based Vessel Segmentation",
    )
    title: ClassVar[str] = "FIVES"
    target: ClassVar[Target] = "vessel"
    complete: ClassVar[int | None] = 800
    licence: ClassVar[str] = "CC BY 4.0 as far as known; owned by Zhejiang University"

    def parts(self, base: Path) -> list[Found]:
        return [
            pair_up_part(part, base / part / "Original", base / part / "Ground truth", image_itself)
            for part in ("train", "test")
        ]
