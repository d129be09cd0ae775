"""Tiles: what a model says of each pixel comes back to that pixel, without seams."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sam2lora.datasets import OUTSIDE, Pair
from sam2lora.datasets.field_of_view import field_of_view
from sam2lora.datasets.geometry import letterbox
from sam2lora.tiles import blend, logits_of, starts, view


def constant(images: Tensor) -> Tensor:
    return torch.full((len(images), 1, images.shape[2] // 2, images.shape[3] // 2), 1.25)


def pointwise(images: Tensor) -> Tensor:
    return 8 * images[:, 1:2] - 3 * images[:, :1]


def photograph(height: int, width: int) -> np.ndarray:
    """Smooth random colours."""
    small = np.random.default_rng(0).integers(60, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def everywhere(image: np.ndarray) -> np.ndarray:
    return np.ones(image.shape[:2], bool)


@given(st.integers(1, 3000), st.integers(4, 512))
def test_tiles_cover_everything_and_overlap_by_a_quarter(length: int, size: int) -> None:
    begins = starts(length, size)
    assert begins[0] == 0
    assert begins[-1] == max(0, length - size)
    assert all(later - earlier <= size - size // 4 for earlier, later in pairwise(begins))


@pytest.mark.parametrize("finer", [1.0, 1.5, 2.0, 4.0])
@pytest.mark.parametrize("shape", [(200, 280), (280, 200), (96, 96), (40, 56)])
def test_a_constant_model_gives_a_constant_map(shape: tuple[int, int], finer: float) -> None:
    image = photograph(*shape)
    seen = view(image, 64, finer, everywhere(image))
    found = seen.joined(logits_of(constant, seen.frames, "cpu", 3))
    assert found.shape == shape
    assert np.abs(found - 1.25).max() < 1e-5


@pytest.mark.parametrize("finer", [1.5, 2.0, 3.1])
def test_a_pointwise_model_gives_the_same_tiled_and_whole(finer: float) -> None:
    image = photograph(208, 264)
    tiled = view(image, 64, finer, everywhere(image))
    whole = view(image, tiled.side, 1.0, everywhere(image))
    assert len(tiled.frames) > 1
    assert len(whole.frames) == 1
    found = [seen.joined(logits_of(pointwise, seen.frames, "cpu", 4)) for seen in (tiled, whole)]
    assert np.abs(found[0] - found[1]).max() < 1e-4


def test_a_model_that_differs_from_tile_to_tile_leaves_no_seam() -> None:
    corners = ((0, 0), (0, 48))
    joined = blend(np.stack([np.zeros((64, 64)), np.ones((64, 64))]).astype(np.float32), corners, 112)[:64]
    steps = np.diff(joined, axis=1)
    assert (steps >= 0).all()
    assert steps.max() < 0.15, "a hard edge would be a step of 1"
    assert (joined[:, :48] == 0).all()
    assert (joined[:, 64:] == 1).all()
    assert np.abs(joined[:, 48:64] + joined[:, 48:64][:, ::-1] - 1).max() < 1e-6, "the middle is half of each"


def test_the_scale_is_that_of_training_times_finer_and_at_most_the_images_own() -> None:
    image = photograph(200, 400)
    sides = [view(image, 64, finer, everywhere(image)).side for finer in (1.0, 2.0, 6.25, 50.0)]
    assert sides == [64, 128, 400, 400]
    assert view(photograph(32, 40), 64, 9.0).side == 64, "a small image is enlarged as in training, and no further"


def test_one_frame_is_that_of_training() -> None:
    image = photograph(120, 160)
    image[:, :30] = image[:, 150:] = image[:15] = image[105:] = 0
    fov = field_of_view(image)
    expected, _, native = letterbox(Pair(image, np.zeros_like(fov), fov), 64)
    seen = view(image, 64)
    assert np.array_equal(seen.frames, expected[None])
    assert (seen.native.box, seen.corners) == (native.box, ((0, 0),))
    assert native.box[1] > 20, "the black border is cut off"
    assert (seen.joined(np.zeros((1, 64, 64), np.float32))[:, : native.box[1]] == OUTSIDE).all()


def test_coarser_than_in_training_is_refused() -> None:
    with pytest.raises(ValueError, match=r"finer is 0\.5: use 1 or more"):
        view(photograph(64, 64), 64, 0.5)
