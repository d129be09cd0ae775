"""The computed field of view on photographs whose field is known."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from sam2lora.datasets import Hospital, Synthetic
from sam2lora.datasets.field_of_view import field_of_view, lit_disc


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


def eye(size=300, radius=130):
    """A retina on black, darker towards its edge, cut straight at the top; its field of view, and the distance from
    its centre in radii."""
    rows, columns = np.mgrid[:size, :size]
    away = np.hypot(rows - size / 2, columns - size / 2) / radius
    field = (away < 1) & (rows > size / 2 - 0.8 * radius)
    grain = np.random.default_rng(0).normal(0, 3, (size, size))
    light = np.where(field, 180 * (1 - 0.4 * away**2) + grain, np.abs(grain))
    return light[..., None] * np.array([1, 0.5, 0.25]), field, away


def seen(light):
    return field_of_view(np.clip(np.rint(light), 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    "shade",
    [
        lambda rows, columns, away: 0.12 + 0.88 / (1 + np.exp((columns - 150) / 10)),
        lambda rows, columns, away: 0.1 + 0.9 / (1 + np.exp((rows - 200) / 10)),
        lambda rows, columns, away: 1 - 0.85 * np.minimum(away, 1) ** 2,
        lambda rows, columns, away: np.full(away.shape, 0.2),
    ],
    ids=["half in shadow", "shadow below", "vignette", "underexposed"],
)
def test_dark_retina_is_kept(shade):
    light, field, away = eye()
    rows, columns = np.mgrid[:300, :300]
    found = seen(light * shade(rows, columns, away)[..., None])
    assert (found & field).sum() > 0.985 * field.sum()
    assert found.sum() < 1.03 * field.sum()


def test_what_lies_beyond_the_edge_is_left_out():
    """A leak of light, a tab of the camera, print in two corners, and a border that is grey with noise."""
    light, field, _ = eye()
    rows, columns = np.mgrid[:300, :300]
    leak = light + 90 * np.exp(-((rows - 240) ** 2 + (columns - 255) ** 2) / 300)[..., None]
    tab = np.where(((rows - 75) ** 2 + (columns - 262) ** 2 < 90)[..., None], 150.0, light)
    print_ = np.where(((rows > 285) & ((columns < 60) | (columns > 240)) & (columns % 5 < 2))[..., None], 255.0, light)
    noisy = light + 20 + np.random.default_rng(1).normal(0, 4, light.shape)
    for changed in (leak, tab, print_, noisy):
        assert iou(seen(changed), field) > 0.96


def test_a_notch_and_a_vessel_at_the_edge_belong_to_the_field():
    light, field, _ = eye()
    rows, columns = np.mgrid[:300, :300]
    light[abs(rows - columns) < 4] *= 0.05
    assert (seen(light) & field).sum() > 0.995 * field.sum()


def test_a_picture_that_is_not_round_keeps_its_shape():
    rows, columns = np.mgrid[:200, :300]
    for field in (
        (rows > 30) & (rows < 170) & (columns > 40) & (columns < 260),
        (abs(rows - 100) + abs(columns - 150) < 95),
    ):
        assert iou(seen(np.where(field, 150.0, 4.0)[..., None] * np.array([1, 0.5, 0.3])), field) > 0.97


def test_no_disc_in_a_black_picture():
    assert lit_disc(np.zeros((40, 40, 3), np.uint8)) is None
    assert lit_disc(np.full((40, 40, 3), 200, np.uint8)) is None
