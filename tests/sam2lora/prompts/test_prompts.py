"""Prompts: points that lie where their labels say."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from sam2lora.prompts import NoPrompt, Points


def masks(seed: int = 0, n: int = 6, side: int = 24) -> NDArray[np.bool_]:
    """Masks (n, side, side) of one percent to half of the image."""
    rng = np.random.default_rng(seed)
    return rng.random((n, side, side)) < np.linspace(0.01, 0.5, n)[:, None, None]


def rng(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_no_prompt_is_nothing_and_draws_nothing() -> None:
    generator = rng()
    assert NoPrompt().sample(masks(), generator) is None
    assert generator.random() == rng().random()


def test_only_points_look_at_the_truth() -> None:
    assert NoPrompt().oracle is False
    assert Points().oracle is True


@pytest.mark.parametrize(("positive", "negative"), [(5, 0), (3, 2), (0, 4), (1, 1)])
def test_every_point_lies_where_its_label_says(positive: int, negative: int) -> None:
    for seed in range(5):
        truth = masks(seed)
        coords, labels = Points(positive=positive, negative=negative).sample(truth, rng(seed))
        assert coords.dtype == np.float32
        assert labels.dtype == np.int32
        assert coords.shape == (6, positive + negative, 2)
        assert labels.shape == (6, positive + negative)
        assert set(labels[:, :positive].ravel().tolist()) <= {1, -1}
        assert set(labels[:, positive:].ravel().tolist()) <= {0, -1}
        for image, points, names in zip(truth, coords, labels, strict=True):
            for (x, y), label in zip(points.astype(int), names, strict=True):
                assert label == -1 or image[y, x] == bool(label)


def test_x_is_the_column_and_y_the_row() -> None:
    truth = np.zeros((1, 8, 8), bool)
    truth[0, 2, 5] = True
    coords, labels = Points(positive=1).sample(truth, rng())
    assert coords.tolist() == [[[5.0, 2.0]]]
    assert labels.tolist() == [[1]]


def test_points_are_distinct_and_in_row_order() -> None:
    truth = np.ones((1, 4, 4), bool)
    coords, _ = Points(positive=16).sample(truth, rng())
    assert coords[0].tolist() == [[x, y] for y in range(4) for x in range(4)]


def test_a_mask_that_is_empty_or_small_or_full_is_padded() -> None:
    truth = np.zeros((3, 8, 8), bool)
    truth[1, 3, 3:5] = True
    truth[2] = True
    coords, labels = Points(positive=3, negative=2).sample(truth, rng())
    assert labels.tolist() == [[-1, -1, -1, 0, 0], [1, 1, -1, 0, 0], [1, 1, 1, -1, -1]]
    assert coords[1, :2].tolist() == [[3.0, 3.0], [4.0, 3.0]]
    assert not coords[labels == -1].any()


def test_the_generator_alone_decides() -> None:
    state = np.random.get_state()[1].copy()
    first, again, other = (Points(negative=2).sample(masks(), rng(seed))[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.array_equal(state, np.random.get_state()[1])


def test_every_pixel_of_the_mask_is_drawn_equally_often() -> None:
    truth = np.zeros((1, 6, 6), bool)
    truth[0, 2, :] = True
    truth[0, 4, 1] = True
    generator, counts = rng(), np.zeros((6, 6))
    for _ in range(2000):
        coords, _ = Points(positive=2).sample(truth, generator)
        for x, y in coords[0].astype(int):
            counts[y, x] += 1
    assert counts[~truth[0]].sum() == 0
    expected = 4000 / 7
    assert np.abs(counts[truth[0]] - expected).max() < 5 * np.sqrt(expected)


def test_a_mask_is_left_alone() -> None:
    truth = masks()
    kept = truth.copy()
    Points(negative=3).sample(truth, rng())
    assert np.array_equal(truth, kept)


def test_no_points_at_all_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"use NoPrompt\(\)"):
        Points(positive=0, negative=0)
    with pytest.raises(ValidationError, match="positive"):
        Points(positive=-1)
