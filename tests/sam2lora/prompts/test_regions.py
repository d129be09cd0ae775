"""Regions: how often each pixel of a mask is drawn, against probabilities counted the slow way."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chisquare

from sam2lora.prompts import Points, Region
from sam2lora.prompts.regions import likelihood

SIDE = 33
REGIONS: tuple[Region, ...] = get_args(Region)


def disc(radius: float, row: float = 16.0, column: float = 16.0) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.asarray((rows - row) ** 2 + (columns - column) ** 2 <= radius**2)


def two_discs() -> NDArray[np.bool_]:
    """A thick and a thin component, the thick one cut by the frame."""
    return disc(5, 4.0, 26.0) | disc(2, 24.0, 8.0)


def crossing() -> NDArray[np.bool_]:
    """Two vessels of one pixel that cross."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[16, 2:30] = mask[4:31, 16] = True
    return mask


MASKS = {"disc": disc(8), "two discs": two_discs(), "crossing": crossing(), "full": np.ones((SIDE, SIDE), bool)}


def expected(mask: NDArray[np.bool_], region: Region) -> NDArray[np.float64]:
    """The stated rule, pixel by pixel."""
    outside = [(r, c) for r in range(-1, SIDE + 1) for c in range(-1, SIDE + 1) if not _on(mask, r, c)]
    weights = []
    for row, column in np.argwhere(mask):
        squared = min((row - r) ** 2 + (column - c) ** 2 for r, c in outside)
        near = [_on(mask, row + r, column + c) for r in (-1, 0, 1) for c in (-1, 0, 1)]
        weights.append({"uniform": 1, "centre": squared, "periphery": 1 / squared, "density": sum(near) / 9}[region])
    return np.asarray(weights) / sum(weights)


def _on(mask: NDArray[np.bool_], row: int, column: int) -> bool:
    return 0 <= row < SIDE and 0 <= column < SIDE and bool(mask[row, column])


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("name", ["disc", "two discs", "crossing"])
def test_likelihoods_follow_their_rule(name: str, region: Region) -> None:
    mask = MASKS[name]
    found = likelihood(mask, region)
    if found is None:
        assert region == "uniform"
    else:
        np.testing.assert_allclose(found, expected(mask, region), rtol=1e-9)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("name", ["disc", "crossing"])
def test_draws_follow_the_likelihoods(name: str, region: Region) -> None:
    mask = MASKS[name]
    rng, counts, draws = np.random.default_rng(11), np.zeros(mask.shape), 2500
    for _ in range(draws):
        (x, y), *_ = Points(positive=1, region=region).sample(mask, rng)[0].astype(int)
        counts[y, x] += 1
    assert counts[~mask].sum() == 0
    wanted = draws * expected(mask, region)
    rare = wanted < 5  # too few for the test one by one, so counted together
    assert chisquare(_lumped(counts[mask], rare), _lumped(wanted, rare)).pvalue > 0.001


def _lumped(values: NDArray[np.float64], rare: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.append(values[~rare], values[rare].sum()) if rare.any() else values


@pytest.mark.parametrize("name", ["disc", "two discs", "full"])
def test_centre_is_deeper_than_uniform_and_periphery_is_less(name: str) -> None:
    mask = MASKS[name]
    depth = np.sqrt(expected(mask, "centre") / expected(mask, "centre").min())
    means = {region: depth @ expected(mask, region) for region in REGIONS}
    assert means["centre"] > 1.2 * means["uniform"] > 1.2 * means["periphery"]
    found = likelihood(mask, "centre")
    assert found is not None
    row, column = np.argwhere(mask)[found.argmax()]
    assert _depth(mask, row, column) == max(_depth(mask, r, c) for r, c in np.argwhere(mask))


def _depth(mask: NDArray[np.bool_], row: int, column: int) -> int:
    """Chessboard steps from a pixel to the outside: a square of 2 n - 1 pixels around it lies in the mask."""
    steps = 1
    reach = range(-steps, steps + 1)
    while all(_on(mask, row + r, column + c) for r in reach for c in reach):
        steps += 1
        reach = range(-steps, steps + 1)
    return steps


def test_a_thin_vessel_is_uniform_for_centre_and_periphery_and_crowded_at_its_crossing() -> None:
    slanted = np.eye(SIDE, dtype=bool)
    regions: tuple[Region, ...] = ("centre", "periphery")
    for region in regions:
        found = likelihood(slanted, region)
        assert found is not None
        np.testing.assert_allclose(found, 1 / SIDE, rtol=1e-9)
    mask = crossing()
    found = likelihood(mask, "density")
    assert found is not None
    top = np.argwhere(mask)[found > found.max() * (1 - 1e-9)]
    assert sorted(map(tuple, top.tolist())) == [(15, 16), (16, 15), (16, 16), (16, 17), (17, 16)]


@pytest.mark.parametrize("region", REGIONS)
def test_no_pixel_is_out_of_reach(region: Region) -> None:
    """Every pixel of a vessel may be drawn: no erosion takes thin parts away."""
    for mask in MASKS.values():
        count = int(mask.sum())
        coords, labels = Points(positive=count, region=region).sample(mask, np.random.default_rng(0))
        assert (labels == 1).all()
        assert {(y, x) for x, y in coords.astype(int).tolist()} == set(map(tuple, np.argwhere(mask).tolist()))


@pytest.mark.parametrize("region", REGIONS)
def test_the_smallest_masks(region: Region) -> None:
    one = np.zeros((SIDE, SIDE), bool)
    one[0, 32] = True  # in the corner of the frame
    coords, labels = Points(positive=3, region=region).sample(one, np.random.default_rng(0))
    assert coords.tolist() == [[32, 0], [0, 0], [0, 0]]
    assert labels.tolist() == [1, -1, -1]
    coords, labels = Points(positive=1, region=region).sample(np.ones((1, 1), bool), np.random.default_rng(0))
    assert coords.tolist() == [[0, 0]]
    assert labels.tolist() == [1]


@pytest.mark.parametrize("side", [16, 64, 256, 1024])
def test_the_window_of_density_is_a_sixteenth_of_the_frame(side: int) -> None:
    mask = np.zeros((side, side), bool)
    mask[side // 2] = True
    found = likelihood(mask, "density")
    assert found is not None
    reach = int((found < found.max() * (1 - 1e-9)).sum()) // 2  # at each end the window leaves the frame
    assert reach == max(1, side // 32)
