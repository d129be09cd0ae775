"""DRIONS-DB (Carmona et al., 2008): 110 photographs of a Spanish hospital, 600 x 400, optic disc."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, pair_up
from sam2lora.datasets.outlines import inside, read_contour, size
from sam2lora.datasets.pairs import Entry, Found, Pair
from sam2lora.datasets.patients import image_itself
from sam2lora.datasets.published_set import PublishedSet
from sam2lora.datasets.reading import combine, paired, read_image

_GRADERS = {"first": (1,), "second": (2,)}


@choice
class DrionsDB(PublishedSet):
    """``DRIONS-DB/{images/image_001.jpg,experts_anotation/anotExpert1_001.txt}``; the folder is spelled so.

    The contours hold ``x , y`` on each line, and there are no cups. ``image_101`` is one pixel narrower than the
    others; a contour is filled in the size of its own image. No official split; ours is that of Maninis et al. (2016):
    the first 60 images are the development part, the last 50 the test. One image is one patient. The field of view is
    computed.
    """

    kind: Literal["drions_db"] = "drions_db"
    target: Literal["disc"] = "disc"
    annotator: Literal["first", "second", "union", "intersection"] = "first"

    folders: ClassVar[tuple[str, ...]] = ("DRIONS-DB", "DRIONS")
    title: ClassVar[str] = "DRIONS-DB"
    complete: ClassVar[int | None] = 110
    licence: ClassVar[str] = "research use as far as known; owned by UNED and the hospital Miguel Servet"

    def parts(self, base: Path) -> list[Found]:
        place = base / "experts_anotation"
        masks = {
            place / f"anotExpert{grader}_*.txt": by_stem(place, prefix=f"anotExpert{grader}_", endings=(".txt",))
            for grader in _GRADERS.get(self.annotator, (1, 2))
        }
        return [pair_up(by_stem(base / "images", prefix="image_"), masks, image_itself)]

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        image = read_image(entry.image)
        discs = [inside(read_contour(file, ","), size(image)) for file in entry.masks]
        return paired(image, combine(discs, self.annotator), entry.masks[0])
