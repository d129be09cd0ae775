"""The computed field of view on photographs whose field is known."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from sam2lora.datasets import Hospital, Synthetic
from sam2lora.datasets.field_of_view import field_of_view


def iou(left, right):
    return (left & right).sum() / (left | right).sum()


@pytest.mark.parametrize("hospital", get_args(Hospital))
def test_every_camera(hospital):
    dataset = Synthetic(hospital=hospital, images=4, size=256)
    for entry in dataset.find(None).entries:
        pair = dataset.read(entry)
        assert iou(field_of_view(pair.image), pair.fov) > 0.96


def test_large_images_are_measured_small():
    rows, columns = np.mgrid[:1700, :1900]
    circle = (rows - 850) ** 2 + (columns - 950) ** 2 < 800**2
    image = np.where(circle[..., None], np.array([170, 80, 30]), np.array([8, 6, 5])).astype(np.uint8)
    assert iou(field_of_view(image), circle) > 0.99


def test_an_image_without_a_border_is_its_own_field():
    image = np.random.default_rng(0).integers(90, 200, (50, 60, 3), np.uint8)
    assert field_of_view(image).all()


def test_a_dark_spot_is_no_hole_and_a_label_is_no_field(drawing):
    image = np.asarray(drawing.photograph()).copy()
    image[25:35, 25:35] = 0
    image[:4, :6] = 255
    assert iou(field_of_view(image), drawing.lit()) > 0.9


@pytest.mark.parametrize("level", [0, 200])
def test_a_flat_image_is_its_own_field(level):
    assert field_of_view(np.full((40, 40, 3), level, np.uint8)).all()
