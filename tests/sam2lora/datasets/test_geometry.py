"""Into the frame of the model and back."""

from __future__ import annotations

import numpy as np
import pytest

from sam2lora.datasets import OUTSIDE, Pair, Synthetic, to_native
from sam2lora.datasets.geometry import content_size, crop_box, letterbox


def dice(left, right):
    return 2 * (left & right).sum() / (left.sum() + right.sum())


def back(mask, native):
    return to_native(mask.astype(np.float32) * 2 - 1, native)


def pair(height, width, box):
    top, left, bottom, right = box
    fov = np.zeros((height, width), bool)
    fov[top:bottom, left:right] = True
    rng = np.random.default_rng(0)
    return Pair(rng.integers(1, 256, (height, width, 3), np.uint8), fov & (rng.random((height, width)) < 0.2), fov)


def test_nothing_changes_when_the_crop_has_the_size_of_the_frame():
    one = pair(40, 50, (3, 7, 35, 39))
    image, mask, native = letterbox(one, 32)
    assert native.box == (3, 7, 35, 39)
    assert native.content == (32, 32)
    np.testing.assert_array_equal(image, one.image[3:35, 7:39])
    np.testing.assert_array_equal(mask.astype(bool), one.mask[3:35, 7:39])
    np.testing.assert_array_equal(back(mask, native) > 0, one.mask)


@pytest.mark.parametrize(
    ("box", "content"), [((0, 0, 40, 80), (16, 32)), ((0, 0, 80, 40), (32, 16)), ((5, 5, 10, 6), (32, 6))]
)
def test_the_longer_side_fills_the_frame_and_the_rest_is_zero(box, content):
    image, mask, native = letterbox(pair(90, 90, box), 32)
    assert native.content == content
    assert image.shape == (32, 32, 3)
    assert mask.shape == (32, 32)
    assert not image[content[0] :].any()
    assert not image[:, content[1] :].any()
    assert image[: content[0], : content[1]].any(axis=2).all()
    assert set(np.unique(mask)) <= {0, 1}


def test_a_sliver_keeps_one_pixel():
    assert content_size((0, 0, 1000, 1), 64) == (64, 1)


def test_an_image_without_a_field_of_view_is_not_cropped():
    assert crop_box(np.zeros((4, 7), bool)) == (0, 0, 4, 7)


def test_areas_are_averaged_and_half_a_pixel_is_enough():
    fov = np.ones((4, 4), bool)
    mask = np.array([[1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0]], bool)
    image = np.repeat(np.arange(16, dtype=np.uint8).reshape(4, 4, 1) * 10, 3, axis=2)
    small, cover, _ = letterbox(Pair(image, mask, fov), 2)
    np.testing.assert_array_equal(cover, [[1, 0], [1, 0]])
    np.testing.assert_array_equal(small[..., 0], [[25, 45], [105, 125]])


def test_outside_the_crop_the_logit_is_low():
    _, mask, native = letterbox(pair(60, 90, (10, 20, 50, 60)), 32)
    logits = back(mask, native)
    outside = ~native.fov
    assert logits.shape == (60, 90)
    assert (logits[outside] == OUTSIDE).all()
    assert (logits[~outside] >= -1).all()


@pytest.mark.parametrize("shape", [(31, 32), (16, 16), (1, 32, 32)])
def test_logits_of_another_size_are_refused(shape):
    _, _, native = letterbox(pair(60, 90, (10, 20, 50, 60)), 32)
    with pytest.raises(ValueError, match=r"must have the size of the model frame, \(32, 32\), but they have"):
        to_native(np.zeros(shape, np.float32), native)


@pytest.mark.parametrize(("target", "size", "least"), [("disc", 192, 0.97), ("vessel", 384, 0.95)])
def test_a_mask_survives_the_round_trip(target, size, least):
    dataset = Synthetic(hospital="elm", images=4, target=target)
    for entry in dataset.find(None).entries:
        _, mask, native = letterbox(dataset.read(entry), size)
        assert dice(back(mask, native) > 0, native.mask) > least


def test_enlarging_is_smooth():
    """A ramp stays a ramp when it is enlarged: no pixel repeats its neighbour."""
    ramp = np.repeat(np.arange(0, 240, 24, dtype=np.uint8)[None], 10, axis=0)
    every = np.ones((10, 10), bool)
    image, _, _ = letterbox(Pair(np.repeat(ramp[..., None], 3, 2), every, every), 40)
    assert (np.diff(image[5, 2:-2, 0].astype(int)) > 0).all()
