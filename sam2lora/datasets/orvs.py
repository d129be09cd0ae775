"""ORVS (Sarhan et al., 2020): 49 photographs of a clinic in Calgary, 1444 x 1444, vessels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import pair_up_part
from sam2lora.datasets.pairs import Entry, Found, Target
from sam2lora.datasets.patients import by_image, image_itself
from sam2lora.datasets.published_set import PublishedSet
from sam2lora.datasets.splits import dealt


@choice
class Orvs(PublishedSet):
    """``ORVS/{Train,Test}/Original/{Images,Labels}``, the same name in both; an id names its part: ``train/1``.

    Masks are JPEG: what is lighter than 127 is vessel. The test part is the folder ``Test``, the images of ``Train``
    are dealt into the folds, see ``splits.dealt``. The owners write of 42 and 7 images and distribute 41 and 8: the
    folders decide. They name no patients: one image counts as one patient. The field of view is computed. The folders
    of other sets beside it in the owners' repository are compressed copies and are not read.
    """

    kind: Literal["orvs"] = "orvs"

    folders: ClassVar[tuple[str, ...]] = ("ORVS",)
    title: ClassVar[str] = "ORVS"
    target: ClassVar[Target] = "vessel"
    complete: ClassVar[int | None] = 49
    licence: ClassVar[str] = "none stated; owned by the University of Calgary"

    def parts(self, base: Path) -> list[Found]:
        places = {part.lower(): base / part / "Original" for part in ("Train", "Test")}
        return [pair_up_part(part, place / "Images", place / "Labels", image_itself) for part, place in places.items()]

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The split of every entry: the owners' test part, the others by rule."""
        test = {entry.patient for entry in entries if entry.id.startswith("test/")}
        return dealt(self.kind, by_image(entries), test)
