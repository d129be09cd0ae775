"""The histogram of logits: AUC and calibration error against scikit-learn and by brute force, Dice at every cut."""

from __future__ import annotations

import time
from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from sam2lora.metrics import confusion, histogram


def auc(logits: NDArray[np.floating], mask: NDArray[np.bool_], fov: NDArray[np.bool_] | None = None) -> float:
    return histogram(logits, mask, fov).auc


def ece(logits: NDArray[np.floating], mask: NDArray[np.bool_], fov: NDArray[np.bool_] | None = None) -> float:
    return histogram(logits, mask, fov).ece


def image(seed: int, shape: tuple[int, int] = (40, 50)) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Continuous logits that know something of a random mask."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < rng.uniform(0.05, 0.6)
    return (rng.normal(-1, 2, shape) + rng.uniform(0, 4) * mask).astype(np.float32), mask


def half(seed: int, shape: tuple[int, int] = (40, 50)) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Logits that half precision represents."""
    logits, mask = image(seed, shape)
    return logits.astype(np.float16).astype(np.float32), mask


def by_hand(logits: NDArray[np.floating], mask: NDArray[np.bool_]) -> float:
    """The calibration error, bin by bin."""
    p = expit(logits.astype(np.float64))
    total = 0.0
    for k in range(15):
        last = p <= 1 if k == 14 else p < (k + 1) / 15
        inside = (p >= k / 15) & last
        if inside.any():
            total += inside.mean() * abs(p[inside].mean() - mask[inside].mean())
    return total


@given(
    scores=arrays(np.float16, (5, 6), elements=st.floats(-4, 4, width=16)),
    mask=arrays(bool, (5, 6)),
)
@settings(max_examples=200)
def test_auc_of_half_precision_scores_is_exact(scores: NDArray[np.float16], mask: NDArray[np.bool_]) -> None:
    """Ties, the two zeros and subnormal numbers included."""
    ours = auc(scores.astype(np.float32), mask)
    if mask.all() or not mask.any():
        assert isnan(ours)
    else:
        assert ours == pytest.approx(oracle.roc_auc_score(mask.ravel(), scores.ravel()), abs=1e-12)


def test_auc_counts_ties_as_half() -> None:
    mask = np.array([[True, True, False, False]])
    assert auc(np.array([[1.0, 0.0, -0.0, -1.0]]), mask) == (1 + 1 + 0.5 + 1) / 4
    assert auc(np.zeros((1, 4)), mask) == 0.5


def test_auc_sees_order_alone_and_bears_infinite_logits() -> None:
    mask = np.array([[True, True, False, False]])
    extreme = np.array([[np.inf, 90000.0, 3.0, -np.inf]])
    with np.errstate(all="raise"):
        assert auc(extreme, mask) == 1
        assert auc(extreme, ~mask) == 0
    logits, mask = image(0)
    assert auc(np.float32(16) * logits, mask) == auc(logits, mask)
    assert auc(-logits, mask) == pytest.approx(1 - auc(logits, mask), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_auc_of_continuous_scores_is_close(seed: int) -> None:
    logits, mask = image(seed, (300, 300))
    assert auc(logits, mask) == pytest.approx(oracle.roc_auc_score(mask.ravel(), logits.ravel()), abs=1e-5)


def test_auc_of_eight_megapixels_takes_less_than_half_a_second() -> None:
    logits, mask = image(0, (2336, 3504))
    begun = time.process_time()
    auc(logits, mask, np.ones_like(mask))
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize("seed", range(10))
def test_the_calibration_error_is_that_of_fifteen_bins(seed: int) -> None:
    logits, mask = half(seed)
    fov = np.random.default_rng(seed + 100).random(mask.shape) < 0.8
    assert ece(logits, mask, fov) == pytest.approx(by_hand(logits[fov], mask[fov]), abs=1e-12)


def test_the_calibration_error_is_scikit_learns_curve_weighted_by_pixels() -> None:
    logits, mask = half(1, (200, 200))
    p = expit(logits.astype(np.float64)).ravel()
    share, predicted = calibration_curve(mask.ravel(), p, n_bins=15)
    n = np.histogram(p, 15, (0, 1))[0]
    assert ece(logits, mask) == pytest.approx(float(n[n > 0] @ np.abs(share - predicted)) / p.size, abs=1e-12)


def test_the_calibration_error_of_continuous_logits_is_close() -> None:
    logits, mask = image(2, (300, 300))
    assert ece(logits, mask) == pytest.approx(by_hand(logits, mask), abs=2e-4)


def test_a_calibrated_model_has_almost_no_calibration_error_and_a_sure_wrong_one_has_all() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (1000, 1000)).astype(np.float32)
    assert ece(logits, rng.random(logits.shape) < expit(logits)) < 0.005
    wrong = np.array([[30.0, -30.0]])
    assert ece(wrong, wrong < 0) == pytest.approx(1, abs=1e-9)
    assert ece(wrong, wrong > 0) == pytest.approx(0, abs=1e-9)
    assert ece(np.array([[np.inf, -np.inf]]), np.array([[True, False]])) == 0


def test_confidence_is_that_of_the_foreground() -> None:
    """A sure and right background counts into the first bin, not with the sure and right foreground into the last."""
    logits = np.array([[logit(0.99), logit(0.99), logit(0.01), logit(0.01)]])
    mask = np.array([[True, False, True, False]])
    assert ece(logits, mask) == pytest.approx(0.49, abs=1e-3)  # max(p, 1 - p) would call it 0.49 too, but in one bin
    assert ece(logits, np.array([[True, True, True, True]])) == pytest.approx(0.5, abs=1e-3)  # and here 0.49


def test_without_a_pixel_neither_is_defined() -> None:
    logits, mask = image(0)
    nothing = histogram(logits, mask, np.zeros_like(mask))
    assert isnan(nothing.auc)
    assert isnan(nothing.ece)
    assert np.isnan(nothing.dice([0.0, 1.0])).all()


@pytest.mark.parametrize("seed", range(5))
def test_dice_at_every_cut_is_that_of_the_confusion(seed: int) -> None:
    logits, mask = half(seed)
    fov = np.random.default_rng(seed + 100).random(mask.shape) < 0.8
    cuts = [-100.0, -1.5, 0.0, float(logits[0, 0]), 0.3, 2.0, 1e6, np.inf, -np.inf]
    expected = [confusion(logits, mask, fov, cut).dice for cut in cuts]
    np.testing.assert_allclose(histogram(logits, mask, fov).dice(cuts), expected, atol=1e-15)


def test_an_empty_mask_has_dice_one_where_nothing_is_found() -> None:
    found = histogram(np.array([[1.0, -1.0]]), np.zeros((1, 2), bool))
    assert found.dice([2.0, 1.0, 0.9]).tolist() == [1, 1, 0]


def test_histograms_add_up() -> None:
    logits, mask = image(5)
    part = np.random.default_rng(0).random(mask.shape) < 0.3
    whole, both = histogram(logits, mask), histogram(logits, mask, part) + histogram(logits, mask, ~part)
    assert np.array_equal(whole.on, both.on)
    assert np.array_equal(whole.off, both.off)
    assert whole.on.sum() == mask.sum()


def test_broken_input_has_no_histogram() -> None:
    logits, mask = image(0)
    with pytest.raises(ValueError, match="one shape"):
        histogram(logits, mask[:3])
    logits[0, 0] = nan
    with pytest.raises(ValueError, match="one is NaN"):
        histogram(logits, mask)
