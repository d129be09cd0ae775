"""DRIVE (Staal et al., 2004): 40 photographs of a Dutch screening programme, 565 x 584, vessels."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, pair_up
from sam2lora.datasets.pairs import Found, Problem, Target
from sam2lora.datasets.patients import image_itself
from sam2lora.datasets.published_set import PublishedSet


@choice
class Drive(PublishedSet):
    """``DRIVE/{training,test}/{images,1st_manual,2nd_manual,mask}``, the owners' split into 20 and 20 images.

    ``annotator``: of the test images, which two graders drew. The training images have one, the first, who is read
    there whatever is asked for, so that a model that learnt from the first can be tested on the second. The owners name
    no patients: one image is one patient. Fields of view ship with the set.
    """

    kind: Literal["drive"] = "drive"
    annotator: Literal["first", "second", "union", "intersection"] = "first"

    folders: ClassVar[tuple[str, ...]] = ("DRIVE",)
    title: ClassVar[str] = "DRIVE"
    target: ClassVar[Target] = "vessel"
    complete: ClassVar[int | None] = 40
    licence: ClassVar[str] = "research use, on registration with the Image Sciences Institute, Utrecht"

    def parts(self, base: Path) -> list[Found]:
        return [_part(base / part, part, self.annotator) for part in ("training", "test")]


def _part(base: Path, part: str, annotator: str) -> Found:
    images = by_stem(base / "images", suffix=f"_{part}")
    if not images:
        return Found(())
    graders = {"first": (1,), "second": (2,)}.get(annotator, (1, 2)) if part == "test" else (1,)
    places = {grader: base / ("1st_manual" if grader == 1 else "2nd_manual") for grader in graders}
    masks = {place: by_stem(place, suffix=f"_manual{grader}") for grader, place in places.items()}
    empty = [place for place, files in masks.items() if not files]
    if empty:
        return Found((), tuple(_ungraded(place) for place in empty))
    return pair_up(images, masks, image_itself, by_stem(base / "mask", suffix=f"_{part}_mask"))


def _ungraded(place: Path) -> Problem:
    remedy = (
        "the archive of the challenge holds no test masks; take the complete archive of the owners, "
        f"or remove the folder {place.parent.name} and use the other part alone"
    )
    return Problem(place, "every image needs its mask", "this folder holds none", remedy)
