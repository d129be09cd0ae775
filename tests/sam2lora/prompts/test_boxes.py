"""Boxes, exact and noisy, against what SAM 2 itself draws in training."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from sam2.modeling.sam2_utils import mask_to_box, sample_box_points
from scipy.stats import ks_2samp

from sam2lora.prompts import PAPER_MODES, Box, NoisyBox, Points, PointsAndBox

SIDE = 40


def blob(left: int, top: int, right: int, bottom: int) -> NDArray[np.bool_]:
    """A slanted line of one pixel whose box is given, ends included."""
    mask = np.zeros((SIDE, SIDE), bool)
    for t in np.linspace(0, 1, 2 * SIDE):
        mask[round(top + t * (bottom - top)), round(left + t * (right - left))] = True
    return mask


MASKS = [
    blob(3, 5, 30, 12),
    blob(0, 0, 39, 39),
    blob(7, 20, 7, 31),
    blob(4, 4, 4, 4),
    blob(2, 2, 5, 5) | blob(30, 8, 33, 9),
]
EMPTY = np.zeros((SIDE, SIDE), bool)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("index", range(len(MASKS)))
def test_a_box_is_the_one_that_sam_2_draws(index: int) -> None:
    mask = MASKS[index]
    coords, labels = Box().sample(mask, rng())
    official, names = sample_box_points(torch.from_numpy(mask)[None, None], noise=0.0)
    assert coords.dtype == np.float32
    assert labels.dtype == np.int32
    assert np.array_equal(coords, official[0].numpy())
    assert np.array_equal(labels, names[0].numpy())


def test_a_box_is_tight_and_inclusive() -> None:
    coords, labels = Box().sample(blob(3, 5, 30, 12), rng())
    assert coords.tolist() == [[3, 5], [30, 12]]
    assert labels.tolist() == [2, 3]


@pytest.mark.parametrize("prompt", [Box(), NoisyBox(noise=0.4)], ids=["exact", "noisy"])
def test_an_empty_mask_has_no_box(prompt: Box | NoisyBox) -> None:
    coords, labels = prompt.sample(EMPTY, rng())
    assert labels.tolist() == [-1, -1]
    assert not coords.any()


@pytest.mark.parametrize("prompt", [Box(), NoisyBox(noise=0.4)], ids=["exact", "noisy"])
def test_the_box_of_one_pixel_is_that_pixel(prompt: Box | NoisyBox) -> None:
    coords, labels = prompt.sample(blob(4, 9, 4, 9), rng())
    assert coords.tolist() == [[4, 9], [4, 9]]
    assert labels.tolist() == [2, 3]


@pytest.mark.parametrize("noise", [0.05, 0.1, 0.4, 0.5])
def test_noise_stays_within_its_share_and_the_frame(noise: float) -> None:
    for mask in MASKS:
        exact, _ = Box().sample(mask, rng())
        for seed in range(40):
            coords, labels = NoisyBox(noise=noise).sample(mask, rng(seed))
            assert coords.dtype == np.float32
            assert labels.tolist() == [2, 3]
            assert (np.abs(coords - exact) <= noise * (exact[1] - exact[0]) + 1e-4).all()
            assert (coords >= 0).all()
            assert (coords <= SIDE - 1).all()
            assert (coords[1] >= coords[0]).all()


def test_noise_has_the_law_of_sam_2() -> None:
    mask = blob(8, 12, 31, 22)
    ours = np.array([NoisyBox(noise=0.1).sample(mask, rng(seed))[0].ravel() for seed in range(1500)])
    torch.manual_seed(3)
    many = torch.from_numpy(mask)[None, None].expand(1500, -1, -1, -1)
    official = sample_box_points(many, noise=0.1, noise_bound=10_000)[0].reshape(-1, 4).numpy()
    for mine, theirs in zip(ours.T, official.T, strict=True):
        assert ks_2samp(mine, theirs).pvalue > 0.001
    # The four sides move on their own.
    assert np.abs(np.corrcoef(ours.T) - np.eye(4)).max() < 0.1


def test_noise_follows_the_generator() -> None:
    first, again, other = (NoisyBox().sample(MASKS[0], rng(seed))[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_box_that_could_turn_over_is_refused() -> None:
    for noise in (0.0, 0.51, -0.1):
        with pytest.raises(ValidationError, match="noise"):
            NoisyBox(noise=noise)


@pytest.mark.parametrize("index", range(len(MASKS)))
def test_points_and_box_is_the_box_before_the_points(index: int) -> None:
    """Equal generators give the same points with and without the box, so the pair differs by the box alone."""
    points = Points(positive=5, negative=2, region="density")
    coords, labels = PointsAndBox(points=points).sample(MASKS[index], rng(5))
    alone, names = points.sample(MASKS[index], rng(5))
    assert np.array_equal(coords[2:], alone)
    assert np.array_equal(labels[2:], names)
    assert np.array_equal(coords[:2], Box().sample(MASKS[index], rng())[0])
    assert labels[:2].tolist() == [2, 3]
    inside = coords[labels == 1]
    assert ((inside >= coords[0]) & (inside <= coords[1])).all()


def test_points_of_the_mask_lie_in_its_box() -> None:
    for mask in MASKS:
        left, top, right, bottom = mask_to_box(torch.from_numpy(mask)[None, None])[0, 0].tolist()
        coords, labels = Points(positive=9).sample(mask, rng())
        for x, y in coords[labels == 1]:
            assert left <= x <= right
            assert top <= y <= bottom


@pytest.mark.parametrize("mode", list(PAPER_MODES)[1:])
def test_an_empty_mask_gives_padding_and_at_most_negatives(mode: str) -> None:
    marks = PAPER_MODES[mode].sample(EMPTY, rng())
    assert marks is not None
    assert set(marks[1].tolist()) <= {-1, 0}
