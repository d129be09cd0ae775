"""RITE (Hu et al., 2013): the 40 photographs of DRIVE with arteries and veins told apart, 565 x 584, vessels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from sam2lora.choice import choice
from sam2lora.datasets.checks import check_size
from sam2lora.datasets.layout import by_stem, pair_up
from sam2lora.datasets.pairs import Bits, Entry, Found, Pair, Target, failure
from sam2lora.datasets.patients import image_itself
from sam2lora.datasets.published_set import PublishedSet
from sam2lora.datasets.reading import open_image, paired, read_image, read_pair
from sam2lora.datasets.splits import committed

# red artery, green where one crosses the other, blue vein, white uncertain; black background
_COLOURS = {"artery": ((1, 0, 0), (0, 1, 0)), "vein": ((0, 0, 1), (0, 1, 0))}
_KNOWN = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1))


@choice
class Rite(PublishedSet):
    """``RITE/{training,test}/{images,vessel,av}``: ``21_training.tif``, ``21_training.png``, ``21_training.png``.

    The archive unpacks as ``AV_groundTruth``, which serves as well. ``vessels``: ``"all"`` reads the masks of
    ``vessel``; ``"artery"`` and ``"vein"`` read the colours of ``av``, red and blue, with the green crossings in both
    and the white uncertain vessels in neither. The images are those of DRIVE: ids, owners' split, folds and pool are
    DRIVE's, and the two must not be source and target of one study. The field of view is computed, for none ships.
    """

    kind: Literal["rite"] = "rite"
    vessels: Literal["all", "artery", "vein"] = "all"

    folders: ClassVar[tuple[str, ...]] = ("RITE", "AV_groundTruth")
    title: ClassVar[str] = "RITE"
    target: ClassVar[Target] = "vessel"
    complete: ClassVar[int | None] = 40
    licence: ClassVar[str] = "research use; owned by the University of Iowa, photographs by Utrecht (DRIVE)"
    overlaps: ClassVar[frozenset[str]] = frozenset({"drive"})

    def parts(self, base: Path) -> list[Found]:
        truth = "vessel" if self.vessels == "all" else "av"
        return [_part(base / part, part, truth) for part in ("training", "test")]

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        if self.vessels == "all":
            return read_pair(entry)
        image = read_image(entry.image)
        (path,) = entry.masks
        mask = _read_colours(path, (image.shape[0], image.shape[1]), self.vessels)
        return paired(image, mask, path)

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The committed split of every image id of the complete set: that of DRIVE."""
        return committed("drive")


def _part(base: Path, part: str, truth: str) -> Found:
    masks = by_stem(base / truth, suffix=f"_{part}")
    return pair_up(by_stem(base / "images", suffix=f"_{part}"), {base / truth: masks}, image_itself)


def _read_colours(path: Path, shape: tuple[int, int], vessels: Literal["artery", "vein"]) -> Bits:
    pixels = np.asarray(open_image(path).convert("RGB"))
    channels = pixels > 127
    faint = (pixels > 63) & (pixels < 192)
    code = channels @ np.array([4, 2, 1])
    odd = faint.any(axis=2) | ~np.isin(code, [_code(colour) for colour in _KNOWN])
    if odd.any():
        rule = "an artery-vein mask must be red, blue, green, white and black alone"
        value = f"{int(odd.sum())} pixels are not, the first of them {tuple(map(int, pixels[odd][0]))}"
        raise failure(path, rule, value, "take the owners' lossless file")
    return check_size(path, np.isin(code, [_code(colour) for colour in _COLOURS[vessels]]), shape)


def _code(colour: tuple[int, int, int]) -> int:
    return 4 * colour[0] + 2 * colour[1] + colour[2]
