"""GRAPE (Huang et al., 2023): 631 photographs of 263 eyes with glaucoma, followed over years, disc and cup."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from sam2lora.choice import choice
from sam2lora.datasets.layout import by_stem, pair_up
from sam2lora.datasets.outlines import Contour, filled, nested, read_labelme, read_polygons, size, structure
from sam2lora.datasets.pairs import DiscTarget, Entry, Found, Pair, failure
from sam2lora.datasets.patients import before_underscore
from sam2lora.datasets.published_set import PublishedSet
from sam2lora.datasets.reading import paired, read_image


@choice
class Grape(PublishedSet):
    """``GRAPE``: ``ROI images/1_OD_1.jpg`` with ``json/1_OD_1.json``, polygons ``OD`` and ``OC``.

    The polygons lie in the frame of the ROI images, the surroundings of the disc cut from the photographs of ``CFPs``.
    Where they were cut is not published, so the ROI images are the images here and all of each is its field of view;
    what is learnt on them is not comparable with whole photographs. A cup that leaves the disc widens it. Ids are
    subject, eye and visit; a patient is a subject. No official split: a quarter of the subjects is the test, by a hash
    of their number.
    """

    kind: Literal["grape"] = "grape"
    target: DiscTarget = "disc"

    folders: ClassVar[tuple[str, ...]] = ("GRAPE",)
    title: ClassVar[str] = "GRAPE"
    complete: ClassVar[int | None] = 631
    licence: ClassVar[str] = "CC BY 4.0 as far as known; owned by Zhejiang University"

    def parts(self, base: Path) -> list[Found]:
        images = by_stem(base / "ROI images")
        masks = {base / "json": by_stem(base / "json", endings=(".json",))}
        return [pair_up(images, masks, before_underscore)]

    def read(self, entry: Entry) -> Pair:
        """Decode one entry. Raises ``DataError`` naming the file."""
        image, (file,) = read_image(entry.image), entry.masks
        shape, polygons = size(image), read_polygons(file)
        for label in ("OD", "OC"):
            _check(file, label, polygons.get(label, []), shape)
        outline = nested(filled(polygons["OD"], shape), filled(polygons["OC"], shape), file)
        return paired(image, structure([outline], self.target), file, view="crop")


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
