"""STARE (Hoover et al., 2000): 20 photographs, 10 of them with pathology, 700 x 605, vessels."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, pair_up
from sam2lora.datasets.pairs import Found, Target
from sam2lora.datasets.patients import image_itself
from sam2lora.datasets.published_set import PublishedSet

_GRADERS = {"first": ("ah",), "second": ("vk",)}


@choice
class Stare(PublishedSet):
    """``STARE/{stare-images,labels-ah,labels-vk}``, files ``.ppm`` or ``.ppm.gz``.

    ``annotator``: ``"first"`` is Adam Hoover (ah), ``"second"`` is Valentina Kouznetsova (vk). No official split; ours
    is that of Maninis et al. (2016): the first ten images are the development part, the last ten the test. One image
    is one patient. The field of view is computed.
    """

    kind: Literal["stare"] = "stare"
    annotator: Literal["first", "second", "union", "intersection"] = "first"

    folders: ClassVar[tuple[str, ...]] = ("STARE",)
    title: ClassVar[str] = "STARE"
    target: ClassVar[Target] = "vessel"
    complete: ClassVar[int | None] = 20
    licence: ClassVar[str] = "free for research; its owners (Clemson University) state no licence"

    def parts(self, base: Path) -> list[Found]:
        graders = _GRADERS.get(self.annotator, ("ah", "vk"))
        places = {grader: base / f"labels-{grader}" for grader in graders}
        masks = {place: by_stem(place, suffix=f".{grader}") for grader, place in places.items()}
        return [pair_up(by_stem(base / "stare-images"), masks, image_itself)]
