"""IOSTAR (Zhang et al., 2016): 30 images of a scanning laser ophthalmoscope, 1024 x 1024, vessels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import Files, by_stem, pair_up, renamed
from sam2lora.datasets.pairs import Entry, Found, Target
from sam2lora.datasets.patients import before_underscore, by_image
from sam2lora.datasets.published_set import PublishedSet
from sam2lora.datasets.splits import dealt

_TEST = frozenset(["34", "36", "37", "38", "39", "40", "43", "44", "45", "48"])


@choice
class Iostar(PublishedSet):
    """``IOSTAR/{image,GT,mask}``: ``STAR 01_OSC.jpg``, ``STAR 01_OSC_GT.tif``, ``STAR 01_OSC_Mask.tif``.

    The space may be absent, from some of the files only as well. ``mask_OD`` holds the optic discs, dark on light:
    it is never read, and neither is a file of it that lies in ``GT`` (``_ODMask``). Ids are ``01_OSC``: number, eye
    and view. No official split; the test part is the ten numbers of Meyer et al. (2017), the others are dealt into
    the folds, see ``splits.dealt``. The owners name no patients: one number counts as one patient. Fields of view ship
    with the set.
    """

    kind: Literal["iostar"] = "iostar"

    folders: ClassVar[tuple[str, ...]] = ("IOSTAR",)
    title: ClassVar[str] = "IOSTAR"
    target: ClassVar[Target] = "vessel"
    complete: ClassVar[int | None] = 30
    licence: ClassVar[str] = "research use, on registration; owned by the RetinaCheck project, Eindhoven"

    def parts(self, base: Path) -> list[Found]:
        images, masks, fovs = _files(base / "image"), _files(base / "GT", "_GT"), _files(base / "mask", "_Mask")
        return [pair_up(images, {base / "GT": masks}, before_underscore, fovs)]

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The split of every entry: the agreed test part, the others by rule."""
        return dealt(self.kind, by_image(entries), _TEST)


def _files(place: Path, suffix: str = "") -> Files:
    return renamed(by_stem(place, prefix="STAR", suffix=suffix), str.strip)
