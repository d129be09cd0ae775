"""CHASE_DB1 (Fraz et al., 2012): both eyes of 14 school children, 999 x 960, vessels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, pair_up
from sam2lora.datasets.pairs import Entry, Found, Target
from sam2lora.datasets.patients import without_eye
from sam2lora.datasets.published_set import PublishedSet
from sam2lora.datasets.splits import committed

_GRADERS = {"first": ("1st",), "second": ("2nd",)}


@choice
class ChaseDB1(PublishedSet):
    """``CHASEDB1`` or ``CHASE_DB1``: ``Image_01L.jpg``, ``Image_01L_1stHO.png``, ``Image_01L_2ndHO.png`` in one folder.

    Ids are ``01L`` to ``14R``; a patient is a child. No official split, and two are in use that run in opposite
    directions: ``split="first_20"`` develops on the first 20 images and tests on the last 8 (the usual one with deep
    networks), ``split="last_8"`` develops on the last 8 (four children, hence folds 0 to 3 only) and tests on the
    first 20 (Fraz et al.). Neither separates the eyes of a child. The field of view is computed.
    """

    kind: Literal["chase_db1"] = "chase_db1"
    annotator: Literal["first", "second", "union", "intersection"] = "first"
    split: Literal["first_20", "last_8"] = "first_20"

    folders: ClassVar[tuple[str, ...]] = ("CHASEDB1", "CHASE_DB1")
    title: ClassVar[str] = "CHASE_DB1"
    target: ClassVar[Target] = "vessel"
    complete: ClassVar[int | None] = 28
    licence: ClassVar[str] = "CC BY 4.0 as far as known; owned by Kingston University"

    def parts(self, base: Path) -> list[Found]:
        every = by_stem(base, prefix="Image_")
        images = {identity: path for identity, path in every.items() if "_" not in identity}
        graders = _GRADERS.get(self.annotator, ("1st", "2nd"))
        masks = {
            base / f"Image_*_{grader}HO": by_stem(base, prefix="Image_", suffix=f"_{grader}HO") for grader in graders
        }
        return [pair_up(images, masks, without_eye)]

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The split of every image id, by the convention of ``split``."""
        return committed(f"chase_db1_{self.split}")
