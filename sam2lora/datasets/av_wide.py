"""AV-WIDE (Estrada et al., 2015): 30 ultra-wide images of an Optos camera, about 1400 x 900, vessels."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, pair_up
from sam2lora.datasets.pairs import Found, Target
from sam2lora.datasets.patients import image_itself
from sam2lora.datasets.published_set import PublishedSet


@choice
class AVWide(PublishedSet):
    """``AV-WIDE``: ``wide_image_01.png`` and ``wide_image_01_vessels.png`` in one folder; others are passed over.

    Every image is of another person and of another size. No official split: patients are dealt, see
    ``splits.dealt``. The field of view is computed; it follows the lids of the eye.
    """

    kind: Literal["av_wide"] = "av_wide"

    folders: ClassVar[tuple[str, ...]] = ("AV-WIDE", "AV_WIDE", "AVWIDE")
    title: ClassVar[str] = "AV-WIDE"
    target: ClassVar[Target] = "vessel"
    complete: ClassVar[int | None] = 30
    licence: ClassVar[str] = "unclear: ask its owners, Duke University"

    def parts(self, base: Path) -> list[Found]:
        every = by_stem(base, prefix="wide_image_")
        images = {identity: path for identity, path in every.items() if identity.isdigit()}
        masks = by_stem(base, prefix="wide_image_", suffix="_vessels")
        return [pair_up(images, {base / "wide_image_*_vessels": masks}, image_itself)]
