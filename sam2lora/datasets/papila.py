"""PAPILA (Kovalyk et al., 2022): both eyes of 244 patients of a Spanish clinic, 2576 x 1934, disc and cup."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, folder, pair_up
from sam2lora.datasets.listing import folders
from sam2lora.datasets.outlines import inside, nested, read_contour, size, structure
from sam2lora.datasets.pairs import DiscTarget, Entry, Found, Pair
from sam2lora.datasets.patients import without_eye
from sam2lora.datasets.published_set import PublishedSet
from sam2lora.datasets.reading import paired, read_image

_GRADERS = {"first": (1,), "second": (2,)}
_ARCHIVE = "PapilaDB-PAPILA-"  # and then a hash


@choice
class Papila(PublishedSet):
    """``PAPILA`` or ``PapilaDB-PAPILA-*``: ``FundusImages/RET002OD.jpg``, ``ExpertsSegmentations/Contours``.

    The contours ``RET002OD_{disc,cup}_exp{1,2}.txt`` hold a point x, y on each line. Per expert, a cup that leaves the
    disc widens it; then ``annotator`` combines the two. Ids are ``RET002OD`` and ``RET002OS``; both eyes are one
    patient, ``RET002``. No official split: a quarter of the patients is the test, by a hash of their number. The field
    of view is computed.
    """

    kind: Literal["papila"] = "papila"
    target: DiscTarget = "disc"
    annotator: Literal["first", "second", "union", "intersection"] = "first"

    title: ClassVar[str] = "PAPILA"
    complete: ClassVar[int | None] = 488
    licence: ClassVar[str] = "CC BY 4.0 as far as known; owned by the hospital Reina Sofía, Murcia"

    def home(self, root: Path | None) -> Path:
        return folder(root, ("PAPILA", *_archives(root)), self.title)

    def parts(self, base: Path) -> list[Found]:
        inner = _archives(base)
        files = base / inner[0] if len(inner) == 1 else base
        images, contours = by_stem(files / "FundusImages"), files / "ExpertsSegmentations" / "Contours"
        masks = {
            contours / f"*_{what}_exp{grader}.txt": by_stem(contours, "", f"_{what}_exp{grader}", (".txt",))
            for grader in _GRADERS.get(self.annotator, (1, 2))
            for what in ("disc", "cup")
        }
        return [pair_up(images, masks, without_eye)]

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        image = read_image(entry.image)
        drawn = [inside(read_contour(file), size(image)) for file in entry.masks]
        graded = zip(drawn[::2], drawn[1::2], entry.masks[1::2], strict=True)
        mask = structure([nested(*outline) for outline in graded], self.target, self.annotator)
        return paired(image, mask, entry.masks[self.target == "cup"])


def _archives(place: Path | None) -> list[str]:
    """The folders in ``place`` that are named as the owners' archive unpacks."""
    there = folders(place) if place is not None else []
    return [path.name for path in there if path.name.lower().startswith(_ARCHIVE.lower())]
