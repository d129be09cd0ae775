"""Which pictures cannot show a fundus. Nothing that can is refused."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sam2lora.datasets import DATASETS, DrishtiGS1, Synthetic
from sam2lora.datasets.eye import why_no_fundus
from sam2lora.datasets.hospitals import HOSPITALS
from sam2lora.datasets.layout import MissingFolderError
from sam2lora.datasets.reading import read_image

SIDE = 120


def noise(low: int, high: int, channels: int = 3) -> np.ndarray:
    drawn = np.random.default_rng(0).integers(low, high, (SIDE, SIDE, channels), np.uint8)
    return np.ascontiguousarray(np.broadcast_to(drawn, (SIDE, SIDE, 3)))


def flat(*colour: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), colour, np.uint8)


def on_white() -> np.ndarray:
    """A photograph as a page shows it: its surroundings would be taken for retina."""
    dataset = Synthetic(hospital="cedar", images=4, size=SIDE)
    pair = dataset.read(dataset.find(None).entries[0])
    return np.where(pair.fov[..., None], pair.image, 255).astype(np.uint8)


def page() -> np.ndarray:
    """Dark lines on light paper."""
    pixels = flat(190, 190, 185)
    pixels[10::12, 10:-10] = 30
    return pixels


@pytest.mark.parametrize("hospital", HOSPITALS)
def test_no_procedural_photograph_is_refused_nor_its_middle(hospital: str) -> None:
    dataset = Synthetic(hospital=hospital, images=6, size=96)
    for entry in dataset.find(None).entries:
        image = dataset.read(entry).image
        assert why_no_fundus(image) is None
        assert why_no_fundus(np.ascontiguousarray(image[24:72, 24:72])) is None
        for exposed in (image // 3, np.minimum(image * 1.5, 255).astype(np.uint8)):
            assert why_no_fundus(exposed) is None


@pytest.mark.parametrize(
    ("pixels", "why"),
    [
        (flat(0, 0, 0), "it is black"),
        (noise(0, 12), "it is black"),
        (flat(255, 255, 255), "it is white"),
        (noise(225, 255), "it is white"),
        (flat(180, 90, 40), "it has one colour alone"),
        (noise(0, 255), "its colours are not those of a fundus"),
        (noise(90, 180, 1), "no lit disc stands out, and it is grey"),
        (page(), "no lit disc stands out, and it is grey"),
        (on_white(), "no lit disc stands out, and it is grey"),
    ],
)
def test_what_shows_no_fundus_is_refused_with_the_reason(pixels: np.ndarray, why: str) -> None:
    assert str(why_no_fundus(pixels)).startswith(why)
    large = np.asarray(Image.fromarray(pixels).resize((900, 700), Image.Resampling.NEAREST))
    assert str(why_no_fundus(large)).startswith(why)


def test_a_photograph_whose_channels_were_swapped_is_refused() -> None:
    dataset = Synthetic(hospital="cedar", images=4, size=96)
    entry = dataset.find(None).entries[0]
    swapped = np.ascontiguousarray(dataset.read(entry).image[..., ::-1])
    assert why_no_fundus(swapped) == "its colours are not those of a fundus"


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 500), (500, 1), (5, 5)])
def test_a_picture_of_hardly_any_pixels_is_judged(size: tuple[int, int]) -> None:
    assert why_no_fundus(np.zeros((*size, 3), np.uint8)) == "it is black"


@pytest.mark.realdata
@pytest.mark.parametrize("dataset", [*DATASETS, DrishtiGS1(copy="1024")], ids=lambda dataset: dataset.name)
def test_no_real_photograph_is_refused_nor_its_middle(dataset, fundus) -> None:
    try:
        entries = dataset.find(fundus).entries
    except MissingFolderError:
        pytest.skip("there is no copy of it")
    for entry in entries[:8]:
        image = read_image(entry.image)
        height, width = image.shape[:2]
        middle = np.ascontiguousarray(image[height // 4 : -height // 4, width // 4 : -width // 4])
        assert why_no_fundus(image) is why_no_fundus(middle) is None


@pytest.mark.parametrize(("size", "strip"), [((128, 300), False), ((128, 400), True), ((400, 128), True)])
def test_a_strip_is_no_photograph(size, strip, drawing):
    image = np.asarray(drawing.photograph().resize(size))
    assert (f"its sides are {size[0]} and {size[1]} pixels" in (why_no_fundus(image) or "")) is strip
