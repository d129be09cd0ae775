"""Which photographs are the same: fingerprints of pixels, and altered copies by their looks."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import pytest
from PIL import Image

from sam2lora.datasets import DATASETS, DEMO_HOSPITALS, PRETRAINING_HOSPITALS, DrishtiGS1, Synthetic
from sam2lora.datasets.field_of_view import field_of_view
from sam2lora.datasets.geometry import crop_box
from sam2lora.datasets.likeness import SIDE, alike, fingerprint, thumbnail
from sam2lora.datasets.reading import read_image

Pixels = np.ndarray


@cache
def painted() -> tuple[Pixels, ...]:
    """Two patients of each hospital, both eyes."""
    sets = [Synthetic(hospital=one, images=4, size=256) for one in (*DEMO_HOSPITALS, *PRETRAINING_HOSPITALS)]
    return tuple(one.read(entry).image for one in sets for entry in one.find(None).entries)


def compressed(image: Pixels, quality: int) -> Pixels:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "jpeg", quality=quality)
    return np.asarray(Image.open(file))


def scaled(image: Pixels, factor: float) -> Pixels:
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(image), None, fx=factor, fy=factor, interpolation=how)


def cut(image: Pixels, top: float, left: float, bottom: float, right: float) -> Pixels:
    """The box of the field of view, less shares of its sides."""
    y0, x0, y1, x1 = crop_box(field_of_view(image))
    height, width = y1 - y0, x1 - x0
    rows = slice(y0 + round(top * height), y1 - round(bottom * height))
    return image[rows, x0 + round(left * width) : x1 - round(right * width)]


ALTERED: dict[str, Callable[[Pixels], Pixels]] = {
    "quality 95": lambda image: compressed(image, 95),
    "quality 75": lambda image: compressed(image, 75),
    "quality 50": lambda image: compressed(image, 50),
    "x 0.3": lambda image: scaled(image, 0.3),
    "x 0.5": lambda image: scaled(image, 0.5),
    "x 2": lambda image: scaled(image, 2),
    "to the field of view": lambda image: cut(image, 0, 0, 0, 0),
    "5 % of every side": lambda image: cut(image, 0.05, 0.05, 0.05, 0.05),
    "5 % of the left": lambda image: cut(image, 0, 0.05, 0, 0),
    "5 % of a corner": lambda image: cut(image, 0.05, 0, 0, 0.05),
    "mirrored": lambda image: image[:, ::-1],
    "cut, half the size, quality 75": lambda image: compressed(scaled(cut(image, 0.05, 0.05, 0.05, 0.05), 0.5), 75),
}


@pytest.mark.parametrize("how", ALTERED)
def test_altered_copies_are_alike_and_different_photographs_are_not(how: str) -> None:
    count = len(painted())
    thumbnails = [thumbnail(image) for image in painted()]
    copies = [thumbnail(ALTERED[how](image)) for image in painted()]
    found = alike([*thumbnails, *copies])
    assert set(found) <= {(i, i + count) for i in range(count)}, "no two of different eyes"
    assert len(found) >= 0.9 * count


def test_nothing_to_see_is_like_nothing() -> None:
    black = thumbnail(np.zeros((60, 80, 3), np.uint8))
    grey = thumbnail(np.full((60, 80, 3), 77, np.uint8))
    assert black.shape == (SIDE, SIDE)
    assert alike([black, black, grey, grey]) == alike([black]) == alike([]) == []


def test_the_order_of_the_photographs_has_no_part_in_it() -> None:
    images = [*painted()[:4], *(compressed(image, 75) for image in painted()[:4])]
    turned = images[::-1]
    forth, back = (alike([thumbnail(image) for image in some]) for some in (images, turned))
    assert forth == sorted((7 - j, 7 - i) for i, j in back)
    assert len(forth) == 4


def test_a_fingerprint_is_of_the_pixels_alone(tmp_path) -> None:
    image = painted()[0]
    exif = Image.Exif()
    exif[0x010E] = "another description"
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(image).save(tmp_path / "b.tif", exif=exif)
    Image.fromarray(image).save(tmp_path / "c.bmp")
    prints = {fingerprint(read_image(tmp_path / name)) for name in ("a.png", "b.tif", "c.bmp")}
    assert prints == {fingerprint(image)}
    changed = image.copy()
    changed[100, 100, 1] ^= 1
    turned = image.reshape(image.shape[0] // 2, -1, 3)
    assert len({fingerprint(one) for one in (image, changed, turned, image[:, ::-1])}) == 4


@pytest.mark.realdata
def test_no_two_real_photographs_are_alike_but_the_copies_of_one_set(fundus) -> None:
    named: dict[str, Pixels] = {}
    for dataset in (*DATASETS, DrishtiGS1(copy="1024")):
        if dataset.name in ("drive", "stare", "chase_db1", "drishti_gs1", "drishti_gs1_1024"):
            named |= {f"{dataset.name} {e.id}": thumbnail(read_image(e.image)) for e in dataset.find(fundus).entries}
    names = list(named)
    pairs = {(names[i], names[j]) for i, j in alike(list(named.values()))}
    copies = {name.split()[1] for name in names if name.startswith("drishti_gs1 ")}
    assert pairs == {(f"drishti_gs1 {one}", f"drishti_gs1_1024 {one}") for one in copies}
    assert len(copies) == 5
