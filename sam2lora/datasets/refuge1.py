"""REFUGE, the challenge of 2018 (Orlando et al., 2020): 1200 photographs of a glaucoma study, disc and cup."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, merged, pair_up
from sam2lora.datasets.outlines import REFUGE_CODES, coded, read_codes, size, structure
from sam2lora.datasets.pairs import DiscTarget, Entry, Found, Pair
from sam2lora.datasets.patients import image_itself
from sam2lora.datasets.published_set import PublishedSet
from sam2lora.datasets.reading import paired, read_image
from sam2lora.datasets.splits import committed

_PARTS = {  # the folder of the images, that of the masks, and the classes that both are sorted by
    "Training400": ("Annotation-Training400/Disc_Cup_Masks", ("Glaucoma", "Non-Glaucoma")),
    "REFUGE-Validation400": ("REFUGE-Validation400-GT/Disc_Cup_Masks", ()),
    "Test400": ("REFUGE-Test-GT/Disc_Cup_Masks", ("G", "N")),
}


@choice
class Refuge1(PublishedSet):
    """``REFUGE/{Training400,REFUGE-Validation400,Test400}``, 400 images each, with the masks in folders beside them.

    Images of ``Training400`` lie in ``Glaucoma`` and ``Non-Glaucoma``. Masks lie in
    ``Annotation-Training400/Disc_Cup_Masks/{Glaucoma,Non-Glaucoma}``, ``REFUGE-Validation400-GT/Disc_Cup_Masks`` and
    ``REFUGE-Test-GT/Disc_Cup_Masks/{G,N}``, as BMP: 0 is the cup, 128
    the rim, 255 the rest; seven graders, merged by the owners. ``split="official"`` tests on ``Test400`` and deals the
    other 800 into folds; ``split="by_camera"`` develops on ``Training400`` (Zeiss, 2124 x 2056) and tests on the 800
    of the other camera (Canon, 1634 x 1634). The owners name no patients: one image is one patient. The field of view
    is computed.
    """

    kind: Literal["refuge1"] = "refuge1"
    target: DiscTarget = "disc"
    split: Literal["official", "by_camera"] = "official"

    folders: ClassVar[tuple[str, ...]] = ("REFUGE", "REFUGE1")
    title: ClassVar[str] = "REFUGE1"
    complete: ClassVar[int | None] = 1200
    licence: ClassVar[str] = "research use, on registration with the challenge, as far as known"

    def parts(self, base: Path) -> list[Found]:
        return [_part(base, images, *rest) for images, rest in _PARTS.items()]

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        image, (file,) = read_image(entry.image), entry.masks
        outline = coded(file, read_codes(file, size(image)), REFUGE_CODES)
        return paired(image, structure([outline], self.target), file)

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The split of every image id, by the convention of ``split``."""
        return committed(f"refuge1_{self.split}")


def _part(base: Path, place: str, truth: str, classes: tuple[str, ...]) -> Found:
    images, masks = (
        merged(by_stem(home), *(by_stem(home / name) for name in classes)) for home in (base / place, base / truth)
    )
    return pair_up(images, {base / truth: masks}, image_itself)
