"""Centreline Dice: against its definition, and what it sees that Dice does not."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.morphology import skeletonize

from sam2lora.datasets.painter import paint
from sam2lora.metrics import cldice

Mask = NDArray[np.bool_]


def defined(guess: Mask, mask: Mask) -> float:
    """The paper's equations, on whole images."""
    one, other = skeletonize(guess), skeletonize(mask)
    precision, sensitivity = (one & mask).sum() / one.sum(), (other & guess).sum() / other.sum()
    return float(2 * precision * sensitivity / (precision + sensitivity))


def dice(guess: Mask, mask: Mask) -> float:
    return float(2 * (guess & mask).sum() / (guess.sum() + mask.sum()))


@pytest.mark.parametrize("index", range(3))
def test_it_is_the_papers(index: int) -> None:
    painted = paint("alder", 200, 0, index)
    rng = np.random.default_rng(index)
    guess = np.roll(painted.vessels, (1, 2), (0, 1)) & (rng.random(painted.vessels.shape) < 0.9)
    inside = painted.fov
    assert cldice(guess, painted.vessels, inside) == pytest.approx(
        defined(guess & inside, painted.vessels & inside), abs=1e-12
    )


def lines() -> Mask:
    mask = np.zeros((80, 120), bool)
    for row in (10, 30, 50, 70):
        mask[row - 2 : row + 3, 5:115] = True
    return mask


def test_a_thinner_vessel_keeps_its_branches_and_a_lost_branch_does_not() -> None:
    mask, fov = lines(), np.ones((80, 120), bool)
    thin, lost = mask.copy(), mask.copy()
    for row in (10, 30, 50, 70):
        thin[[row - 2, row + 2]] = False
    lost[60:] = False
    assert dice(thin, mask) < dice(lost, mask)
    assert cldice(thin, mask, fov) > 0.99 > cldice(lost, mask, fov)
    assert cldice(lost, mask, fov) == pytest.approx(2 * 0.75 / 1.75, abs=0.01)


def test_only_the_field_of_view_has_branches() -> None:
    mask = lines()
    fov = np.zeros_like(mask)
    fov[:40] = True
    guess = mask.copy()
    guess[60:] = False
    assert cldice(guess, mask, fov) == 1
    assert cldice(guess, mask, ~fov) < 1


def test_without_a_common_pixel_it_is_zero_and_without_a_skeleton_undefined() -> None:
    mask, fov = lines(), np.ones((80, 120), bool)
    far = np.zeros_like(mask)
    far[18:22, 5:115] = True
    nothing = np.zeros_like(mask)
    assert cldice(far, mask, fov) == 0
    assert isnan(cldice(nothing, mask, fov))
    assert isnan(cldice(mask, nothing, fov))
    assert cldice(nothing, nothing, fov) == 1
    assert isnan(cldice(nothing, nothing, nothing))


def test_mirrored_vessels_score_nearly_alike() -> None:
    painted = paint("alder", 384, 0, 0)
    guess = np.roll(painted.vessels, 2, 1)
    still = cldice(guess, painted.vessels, painted.fov)
    for turn in (np.fliplr, np.flipud, np.transpose):
        assert cldice(turn(guess), turn(painted.vessels), turn(painted.fov)) == pytest.approx(still, abs=0.01)
