"""LES-AV (Orlando et al., 2018): 22 photographs of the Leuven Eye Study, 11 glaucomatous eyes, 1620 x 1444, vessels."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, pair_up
from sam2lora.datasets.pairs import Found, Target
from sam2lora.datasets.patients import image_itself
from sam2lora.datasets.published_set import PublishedSet


@choice
class LesAV(PublishedSet):
    """``LES-AV/{images,vessel-segmentations,masks}``: ``275.png``, ``275.png``, ``275_mask.gif``.

    ``masks`` holds the fields of view (with or without ``_mask`` in the name), not the vessels. ``arteries``, ``veins``
    and ``arteries-and-veins`` are not read. One photograph is of 45 degrees and 2196 x 1958 pixels, the others are of
    30. No official split, and the owners' numbers are not known beforehand: patients are dealt, see ``splits.dealt``.
    The owners name the eye, age and sex of an image but no patient: one image counts as one patient.
    """

    kind: Literal["les_av"] = "les_av"

    folders: ClassVar[tuple[str, ...]] = ("LES-AV", "LES_AV")
    title: ClassVar[str] = "LES-AV"
    target: ClassVar[Target] = "vessel"
    complete: ClassVar[int | None] = 22
    licence: ClassVar[str] = "scientific use only by its text file, CC BY 4.0 by its page; owned by Orlando et al."

    def parts(self, base: Path) -> list[Found]:
        place = base / "vessel-segmentations"
        fovs = {stem.removesuffix("_mask"): path for stem, path in by_stem(base / "masks").items()}
        return [pair_up(by_stem(base / "images"), {place: by_stem(place)}, image_itself, fovs)]
