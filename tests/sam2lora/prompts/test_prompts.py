"""Prompts in general, and points: marks that lie where their labels say."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from sam2lora.choice import kinds
from sam2lora.prompts import PAPER_MODES, NoPrompt, Points, Prompt, Region, as_tensors

SIDE = 24
REGIONS: tuple[Region, ...] = get_args(Region)


def masks(seed: int = 0, n: int = 6, side: int = SIDE) -> NDArray[np.bool_]:
    """Masks (n, side, side) of one percent to half of the image, of scattered pixels."""
    rng = np.random.default_rng(seed)
    return rng.random((n, side, side)) < np.linspace(0.01, 0.5, n)[:, None, None]


def disc(radius: float, side: int = 48, at: tuple[float, float] | None = None) -> NDArray[np.bool_]:
    row, column = at or (side / 2, side / 2)
    rows, columns = np.mgrid[:side, :side]
    return np.asarray((rows - row) ** 2 + (columns - column) ** 2 <= radius**2)


def line(side: int = SIDE) -> NDArray[np.bool_]:
    """A vessel of one pixel, slanted."""
    return np.eye(side, dtype=bool)


def rng(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


def pixel(x: int, y: int, side: int = SIDE) -> NDArray[np.bool_]:
    mask = np.zeros((side, side), bool)
    mask[y, x] = True
    return mask


@pytest.mark.parametrize("kind", kinds(Prompt).values())
def test_a_prompt_says_whether_it_looks_at_the_truth(kind: type[Prompt]) -> None:
    prompt = kind()
    drawn = [prompt.sample(mask, rng()) for mask in (disc(9), disc(9, at=(10.0, 30.0)))]
    # Two masks, one generator state: whatever differs was read from the mask.
    differs = drawn[0] is not None and drawn[1] is not None and not np.array_equal(drawn[0][0], drawn[1][0])
    assert prompt.oracle == differs
    assert prompt.oracle == (kind is not NoPrompt)


def test_no_prompt_is_nothing_and_draws_nothing() -> None:
    generator = rng()
    assert NoPrompt().sample(disc(5), generator) is None
    assert generator.random() == rng().random()


@pytest.mark.parametrize("mode", PAPER_MODES)
def test_marks_have_the_shapes_and_types_that_sam_wants(mode: str) -> None:
    marks = PAPER_MODES[mode].sample(disc(9), rng())
    if mode == "none":
        assert marks is None
        return
    assert marks is not None
    coords, labels = marks
    assert coords.dtype == np.float32
    assert labels.dtype == np.int32
    wanted = {"1 point": 1, "2 points": 2, "5 points": 5, "5 points + negative": 6, "box": 2, "points + box": 8}[mode]
    assert coords.shape == (wanted, 2)
    assert labels.shape == (wanted,)


def test_the_paper_modes_are_seven_different_prompts() -> None:
    """The published code never draws its negative point, so there the fifth mode repeats the fourth."""
    labels = {
        name: None if (m := p.sample(disc(9), rng())) is None else m[1].tolist() for name, p in PAPER_MODES.items()
    }
    assert labels == {
        "none": None,
        "1 point": [1],
        "2 points": [1, 1],
        "5 points": [1] * 5,
        "5 points + negative": [1] * 5 + [0],
        "box": [2, 3],
        "points + box": [2, 3] + [1] * 5 + [0],
    }


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize(("positive", "negative"), [(5, 0), (3, 2), (0, 4), (1, 1)])
def test_every_point_lies_where_its_label_says(positive: int, negative: int, region: Region) -> None:
    prompt = Points(positive=positive, negative=negative, region=region)
    for seed in range(3):
        for mask in (*masks(seed), disc(8, SIDE), line()):
            coords, labels = prompt.sample(mask, rng(seed))
            assert set(labels[:positive].tolist()) <= {1, -1}
            assert set(labels[positive:].tolist()) <= {0, -1}
            for (x, y), label in zip(coords.astype(int), labels, strict=True):
                assert label == -1 or mask[y, x] == bool(label)


def test_x_is_the_column_and_y_the_row() -> None:
    coords, labels = Points(positive=1).sample(pixel(5, 2), rng())
    assert coords.tolist() == [[5.0, 2.0]]
    assert labels.tolist() == [1]


@pytest.mark.parametrize("region", REGIONS)
def test_points_are_distinct_and_in_row_order(region: Region) -> None:
    coords, _ = Points(positive=16, region=region).sample(np.ones((4, 4), bool), rng())
    assert coords.tolist() == [[x, y] for y in range(4) for x in range(4)]


@pytest.mark.parametrize("region", REGIONS)
def test_a_mask_that_is_empty_or_small_or_full_is_padded(region: Region) -> None:
    empty, full, two = np.zeros((8, 8), bool), np.ones((8, 8), bool), pixel(3, 3, 8) | pixel(4, 3, 8)
    prompt = Points(positive=3, negative=2, region=region)
    drawn = [prompt.sample(mask, rng()) for mask in (empty, two, full)]
    assert [labels.tolist() for _, labels in drawn] == [[-1, -1, -1, 0, 0], [1, 1, -1, 0, 0], [1, 1, 1, -1, -1]]
    assert drawn[1][0][:2].tolist() == [[3.0, 3.0], [4.0, 3.0]]
    for coords, labels in drawn:
        assert not coords[labels == -1].any()


@pytest.mark.parametrize("mode", list(PAPER_MODES)[1:])
def test_the_generator_alone_decides(mode: str) -> None:
    state = np.random.get_state()[1].copy()
    prompt, mask = PAPER_MODES[mode], disc(9)
    kept = mask.copy()
    first, again, other = (prompt.sample(mask, rng(seed)) for seed in (1, 1, 2))
    assert first is not None
    assert again is not None
    assert other is not None
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[0], other[0]) == (mode == "box")
    assert np.array_equal(state, np.random.get_state()[1])
    assert np.array_equal(mask, kept)


def test_every_pixel_of_the_mask_is_drawn_equally_often() -> None:
    truth = np.zeros((6, 6), bool)
    truth[2, :] = True
    truth[4, 1] = True
    generator, counts = rng(), np.zeros((6, 6))
    for _ in range(2000):
        coords, _ = Points(positive=2).sample(truth, generator)
        for x, y in coords.astype(int):
            counts[y, x] += 1
    assert counts[~truth].sum() == 0
    expected = 4000 / 7
    assert np.abs(counts[truth] - expected).max() < 5 * np.sqrt(expected)


def test_no_points_at_all_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"use NoPrompt\(\)"):
        Points(positive=0, negative=0)
    with pytest.raises(ValidationError, match="positive"):
        Points(positive=-1)


def test_marks_of_images_are_stacked_in_their_order() -> None:
    drawn = [Points(positive=2).sample(mask, rng()) for mask in masks(n=4)]
    stacked = as_tensors(drawn, "cpu")
    assert stacked is not None
    coords, labels = stacked
    assert coords.shape == (4, 2, 2)
    assert labels.shape == (4, 2)
    for i, (own, names) in enumerate(drawn):
        assert np.array_equal(coords[i].numpy(), own)
        assert np.array_equal(labels[i].numpy(), names)
    assert as_tensors([None, None], "cpu") is None
