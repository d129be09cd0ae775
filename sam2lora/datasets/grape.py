"""GRAPE (Huang et al., 2023): 631 photographs of 263 eyes with glaucoma, followed over years, disc and cup."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, folder, gather, pair_up
from sam2lora.datasets.outlines import Contour, crop, filled, nested, read_labelme, read_polygons, size, structure
from sam2lora.datasets.pairs import DiscTarget, Entry, Found, Pair, failure
from sam2lora.datasets.reading import read_image
from sam2lora.datasets.splits import dealt


@choice
class Grape:
    """``GRAPE``: ``ROI images/1_OD_1.jpg`` with ``json/1_OD_1.json``, polygons ``OD`` and ``OC``.

    The polygons lie in the frame of the ROI images, the surroundings of the disc cut from the photographs of ``CFPs``.
    Where they were cut is not published, so the ROI images are the images here and all of each is its field of view;
    what is learnt on them is not comparable with whole photographs. A cup that leaves the disc widens it. Ids are
    subject, eye and visit; a patient is a subject. No official split: a quarter of the subjects is the test, by a hash
    of their number.
    """

    kind: Literal["grape"] = "grape"
    target: DiscTarget = "disc"

    name: ClassVar[str] = "grape"
    title: ClassVar[str] = "GRAPE"
    complete: ClassVar[int | None] = 631
    licence: ClassVar[str] = "CC BY 4.0 as far as known; owned by Zhejiang University"
    overlaps: ClassVar[frozenset[str]] = frozenset({"grape"})

    def find(self, root: Path | None) -> Found:
        """List the set under ``root``. Raises ``DataError`` when its folder is missing."""
        base = folder(root, ("GRAPE",), self.title)
        images = by_stem(base / "ROI images")
        masks = {base / "json": by_stem(base / "json", endings=(".json",))}
        patients = {identity: identity.split("_")[0] for identity in images}
        return gather(base, self.title, [pair_up(images, masks, patients)])

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        image, (file,) = read_image(entry.image), entry.masks
        shape, polygons = size(image), read_polygons(file)
        for label in ("OD", "OC"):
            _check(file, label, polygons.get(label, []), shape)
        outline = nested(filled(polygons["OD"], shape), filled(polygons["OC"], shape), file)
        return crop(image, structure([outline], self.target), file)

    def assignment(self, entries: Sequence[Entry]) -> dict[str, str]:
        """The split of every entry, by a hash of its subject."""
        return dealt("grape", {entry.id: entry.patient for entry in entries})


def _check(file: Path, label: str, contours: Sequence[Contour], shape: tuple[int, int]) -> None:
    """Raises ``DataError`` when an outline is missing or was drawn in another frame than that of the ROI image."""
    if not contours:
        raise failure(file, "OD and OC must be outlined", f"{label} is not", "remove the image, or draw it")
    height, width = shape
    content = read_labelme(file)
    drawn = (content.get("imageHeight", height), content.get("imageWidth", width))
    points = np.vstack(contours)
    if drawn != shape or points.min() < -1 or (points > (width, height)).any():
        rule = f"an outline must lie in the frame of the ROI image, {width}x{height}"
        value = f"{label} reaches {points[:, 0].max():.0f},{points[:, 1].max():.0f} of {drawn[1]}x{drawn[0]}"
        raise failure(file, rule, value, "take both from the same copy of the set")
