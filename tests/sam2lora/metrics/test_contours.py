"""Distances of outlines against MONAI and SciPy, bands against a literal reading of the paper, cuts by the rim."""

from __future__ import annotations

from math import isnan

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

from sam2lora.metrics import boundary_iou, distances
from sam2lora.metrics.contours import BOUNDARY_SHARE, contour

Mask = NDArray[np.bool_]


def blobs(seed: int, shape: tuple[int, int] = (90, 120)) -> tuple[Mask, Mask]:
    """Two smooth shapes that resemble each other, away from the edge."""
    rng = np.random.default_rng(seed)
    base, change = (cv2.GaussianBlur(rng.normal(0, 1, shape), (0, 0), 4) for _ in range(2))
    inner = np.zeros(shape, bool)
    inner[3:-3, 3:-3] = True
    return (base + 0.5 * change > 0.03) & inner, (base > 0.03) & inner


def everywhere(mask: Mask) -> Mask:
    return np.ones_like(mask)


def tensor(mask: Mask) -> torch.Tensor:
    return torch.from_numpy(mask)[None, None].float()


def disc(radius: float, centre: tuple[int, int] = (50, 50), side: int = 101) -> Mask:
    rows, columns = np.ogrid[:side, :side]
    return np.asarray((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2)


@pytest.mark.parametrize("seed", range(12))
def test_distances_are_monais(seed: int) -> None:
    guess, mask = blobs(seed)
    found = distances(guess, mask, everywhere(mask))
    pair = tensor(guess), tensor(mask)
    hausdorff = compute_hausdorff_distance(*pair, include_background=True, percentile=95)
    average = compute_average_surface_distance(*pair, include_background=True, symmetric=True)
    assert found.hd95 == pytest.approx(float(hausdorff), rel=1e-6)
    assert found.assd == pytest.approx(float(average), rel=1e-6)
    assert found.hd95 > found.assd > 0


@given(guess=arrays(bool, (9, 11)), mask=arrays(bool, (9, 11)), fov=arrays(bool, (9, 11)))
@settings(max_examples=100)
def test_distances_are_those_of_a_distance_transform(guess: Mask, mask: Mask, fov: Mask) -> None:
    """Contours in any field of view, found pixel by pixel."""
    one, other = literal_contour(guess, fov), literal_contour(mask, fov)
    assert np.array_equal(contour(guess, fov), one)
    found = distances(guess, mask, fov)
    if not fov.any() or (not (one.any() and other.any()) and ((guess ^ mask) & fov).any()):
        assert isnan(found.hd95)
        assert isnan(found.assd)
        return
    if not one.any():
        assert found.hd95 == found.assd == 0
        return
    forth, back = distance_transform_edt(~other)[one], distance_transform_edt(~one)[other]
    np.testing.assert_allclose(np.sort(found.forth), np.sort(forth), atol=1e-12)
    np.testing.assert_allclose(np.sort(found.back), np.sort(back), atol=1e-12)
    assert found.hd95 == pytest.approx(max(np.percentile(forth, 95), np.percentile(back, 95)))
    assert found.assd == pytest.approx(np.concatenate([forth, back]).mean())


def literal_contour(mask: Mask, fov: Mask) -> Mask:
    edge = np.zeros_like(mask)
    for row, column in np.argwhere(mask & fov):
        for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if 0 <= r < mask.shape[0] and 0 <= c < mask.shape[1] and fov[r, c] and not mask[r, c]:
                edge[row, column] = True
    return edge


def test_distances_of_shapes_one_knows() -> None:
    mask, fov = disc(20), np.ones((101, 101), bool)
    assert distances(disc(30), mask, fov).hd95 == pytest.approx(10, abs=0.8)
    assert distances(disc(30), mask, fov).assd == pytest.approx(10, abs=0.5)
    line, moved = np.zeros((50, 50), bool), np.zeros((50, 50), bool)
    line[10, 5:45] = moved[17, 5:45] = True
    apart = distances(line, moved, np.ones_like(line))
    assert apart.hd95 == apart.assd == 7


def test_the_worse_direction_counts_and_a_twentieth_of_the_contour_does_not() -> None:
    mask = np.zeros((40, 300), bool)
    mask[10, 20:220] = True
    spot = mask.copy()
    spot[30, 20:25] = True  # 5 of 205 contour pixels lie 20 pixels away
    fov = np.ones_like(mask)
    assert distances(spot, mask, fov).hd95 == 0
    spot[30, 20:60] = True
    assert distances(spot, mask, fov).hd95 == distances(mask, spot, fov).hd95 == 20


def test_a_mask_has_no_contour_where_the_field_of_view_cuts_it() -> None:
    """A vessel that runs over the rim, predicted 4 pixels too wide: its end at the rim says nothing of its outline."""
    fov = np.zeros((60, 80), bool)
    fov[:, :40] = True
    mask, guess = np.zeros_like(fov), np.zeros_like(fov)
    mask[20:30, 10:70] = True
    guess[16:34, 10:70] = True
    assert not contour(mask, fov)[21:29, 39].any()
    assert contour(mask, fov)[20, 10:40].all()
    cut, whole = distances(guess, mask, fov), distances(guess & fov, mask & fov, np.ones_like(fov))
    assert whole.assd < cut.assd  # the end that both share would be at distance 0
    wall = binary_erosion(mask & fov) ^ (mask & fov)  # what a program without a field of view takes for the contour
    assert wall[20:30, 39].all()
    edge = np.zeros_like(fov)
    edge[:, :40] = mask[:, 30:70]
    assert not contour(edge[:, :40], np.ones((60, 40), bool))[21:29, 39].any()  # the photograph's edge is no different


def test_what_lies_outside_the_field_of_view_moves_nothing() -> None:
    guess, mask = blobs(3)
    fov = disc(40, (45, 60), 120)[:90]
    noise = np.random.default_rng(0).random(mask.shape) < 0.5
    still = distances(guess, mask, fov)
    changed = distances(np.where(fov, guess, noise), np.where(fov, mask, ~noise), fov)
    assert (still.hd95, still.assd) == (changed.hd95, changed.assd)
    assert boundary_iou(guess, mask, fov) == boundary_iou(guess & fov, mask | ~fov, fov)


def band(mask: Mask, width: int) -> Mask:
    """The paper's G_d for a mask away from the edge: what ``width`` erosions by 3 x 3 take away."""
    return mask & ~binary_erosion(mask, np.ones((3, 3)), iterations=width)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("shape", [(90, 120), (220, 300)], ids=str)
def test_the_boundary_iou_is_the_papers(seed: int, shape: tuple[int, int]) -> None:
    guess, mask = blobs(seed, shape)
    width = max(1, round(0.02 * np.hypot(*shape)))
    one, other = band(guess, width), band(mask, width)
    expected = (one & other).sum() / (one | other).sum()
    assert boundary_iou(guess, mask, everywhere(mask)) == pytest.approx(expected, abs=1e-12)
    assert BOUNDARY_SHARE == 0.02


def test_the_boundary_iou_feels_an_outline_that_the_iou_does_not() -> None:
    mask, guess = disc(150, (200, 200), 401), disc(145, (200, 200), 401)
    fov = everywhere(mask)
    iou = (mask & guess).sum() / (mask | guess).sum()
    assert iou > 0.93
    assert boundary_iou(guess, mask, fov) < 0.5


def test_the_boundary_iou_of_thin_structures_is_the_iou() -> None:
    mask, guess = np.zeros((200, 200), bool), np.zeros((200, 200), bool)
    mask[50:56], guess[52:59] = True, True
    assert boundary_iou(guess, mask, everywhere(mask)) == (mask & guess).sum() / (mask | guess).sum()


def test_the_band_has_no_side_at_the_rim() -> None:
    """Half of the photograph is the structure: only its inner edge has a band, two hundredths of the diagonal wide."""
    mask = np.zeros((300, 400), bool)
    mask[:, :200] = True
    shifted = np.roll(mask, 5, 1)
    shifted[:, :5] = True
    assert boundary_iou(shifted, mask, everywhere(mask)) == pytest.approx(5 / 15)  # of bands 10 wide, 5 shared


@given(seed=st.integers(0, 50), rows=st.integers(0, 30), columns=st.integers(0, 30))
@settings(max_examples=30)
def test_the_camera_s_border_moves_nothing(seed: int, rows: int, columns: int) -> None:
    guess, mask = blobs(seed, (50, 60))
    fov = everywhere(mask)
    wide = [np.pad(each, ((rows, 5), (columns, 2))) for each in (guess, mask, fov)]
    assert boundary_iou(*wide) == boundary_iou(guess, mask, fov)
    assert distances(*wide).hd95 == distances(guess, mask, fov).hd95
