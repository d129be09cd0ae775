"""IDRiD (Porwal et al., 2018): 81 photographs of an Indian eye clinic with graded lesions, 4288 x 2848, optic disc."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, pair_up
from sam2lora.datasets.levels import Coding
from sam2lora.datasets.pairs import Found
from sam2lora.datasets.patients import image_itself
from sam2lora.datasets.published_set import PublishedSet


@choice
class Idrid(PublishedSet):
    """``IDRiD/A. Segmentation``: ``1. Original Images/PART``, ``2. All Segmentation Groundtruths/PART/5. Optic Disc``.

    PART is ``a. Training Set`` or ``b. Testing Set``, files are ``IDRiD_01.jpg`` and ``IDRiD_01_OD.tif``. The archive
    unpacks as ``A. Segmentation``, which may also lie in the root itself. The owners' split is 54 and 27
    images. Masks are palette images, red on black: any index above 0 is disc; there are no cups. One image is one
    patient. The field of view is computed.
    """

    kind: Literal["idrid"] = "idrid"
    target: Literal["disc"] = "disc"

    folders: ClassVar[tuple[str, ...]] = ("IDRiD", "A. Segmentation")
    title: ClassVar[str] = "IDRiD"
    coding: ClassVar[Coding] = "index"
    complete: ClassVar[int | None] = 81
    licence: ClassVar[str] = "CC BY 4.0; owned by SGGS Institute, Nanded"

    def parts(self, base: Path) -> list[Found]:
        inner = base / "A. Segmentation"
        files = inner if inner.is_dir() else base
        return [_part(files, part) for part in ("a. Training Set", "b. Testing Set")]


def _part(files: Path, part: str) -> Found:
    truth = files / "2. All Segmentation Groundtruths" / part / "5. Optic Disc"
    images = by_stem(files / "1. Original Images" / part)
    return pair_up(images, {truth: by_stem(truth, suffix="_OD")}, image_itself)
