"""RIM-ONE r3 (Fumero et al., 2015): 159 stereo photographs of three Spanish hospitals, 2144 x 1424, disc and cup."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, pair_up
from sam2lora.datasets.outlines import nested, size, structure
from sam2lora.datasets.pairs import DiscTarget, Entry, Found, Pair, failure
from sam2lora.datasets.patients import image_itself
from sam2lora.datasets.published_set import PublishedSet
from sam2lora.datasets.reading import paired, read_image, read_mask

_FIRST = ("Expert1_masks", "-1-{}-exp1")
_SECOND = ("Expert2_masks", "-1-{}-exp2")
_GRADERS = {"first": (_FIRST,), "second": (_SECOND,), "average": (("Average_masks", "-{}-Avg"),)}


@choice
class RimOneR3(PublishedSet):
    """``RIM-ONE r3/{Healthy,Glaucoma and suspects}``: ``Stereo Images``, ``Expert1_masks`` to ``Average_masks``.

    The image is the left half of ``N-10-R.jpg``, which is what the masks belong to. ``annotator``: ``"average"`` is
    what the owners made of both experts. Per expert, a cup that leaves the disc widens it. No official split; ours is
    that of Maninis et al. (2016), 99 and 60 images. Every number is one eye and counts as one patient. The images show
    the surroundings of the disc without a dark border: all of each is its field of view.
    """

    kind: Literal["rim_one_r3"] = "rim_one_r3"
    target: DiscTarget = "disc"
    annotator: Literal["first", "second", "average", "union", "intersection"] = "first"

    folders: ClassVar[tuple[str, ...]] = ("RIM-ONE r3", "RIM-ONE_r3", "RIM-ONE-r3")
    title: ClassVar[str] = "RIM-ONE r3"
    complete: ClassVar[int | None] = 159
    licence: ClassVar[str] = "research and education, no redistribution; owned by the University of La Laguna"
    overlaps: ClassVar[frozenset[str]] = frozenset({"rim_one"})

    def parts(self, base: Path) -> list[Found]:
        graders = _GRADERS.get(self.annotator, (_FIRST, _SECOND))
        return [_part(base / group, graders) for group in ("Healthy", "Glaucoma and suspects")]

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        stereo = read_image(entry.image)
        if stereo.shape[1] <= stereo.shape[0] or stereo.shape[1] % 2:
            rule, value = "the two views must lie side by side", f"it has {stereo.shape[1]}x{stereo.shape[0]}"
            raise failure(entry.image, rule, value, "take the owners' stereo image")
        image = stereo[:, : stereo.shape[1] // 2].copy()
        masks = [read_mask(file, size(image)) for file in entry.masks]
        drawn = zip(masks[::2], masks[1::2], entry.masks[1::2], strict=True)
        mask = structure([nested(*outline) for outline in drawn], self.target, self.annotator)
        return paired(image, mask, entry.masks[self.target == "cup"], view="crop")


def _part(base: Path, graders: Sequence[tuple[str, str]]) -> Found:
    masks = {
        base / place / f"*{suffix.format(what)}": by_stem(base / place, suffix=suffix.format(what))
        for place, suffix in graders
        for what in ("Disc", "Cup")
    }
    return pair_up(by_stem(base / "Stereo Images"), masks, image_itself)
