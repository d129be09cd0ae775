"""Metrics of one image against scikit-learn, and in every case where a formula divides by zero."""

from __future__ import annotations

import time
from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn import metrics as oracle

from sam2lora.metrics import METRICS, auc, confusion, measure

EMPTY, FULL = np.zeros((4, 4), bool), np.ones((4, 4), bool)
CORNER = EMPTY.copy()
CORNER[:2, :2] = True


def sure(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    return np.where(mask, 3.0, -3.0).astype(np.float32)


def image(seed: int, shape: tuple[int, int] = (40, 50)) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Continuous logits that know something of a random mask."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < rng.uniform(0.05, 0.6)
    return (rng.normal(-1, 2, shape) + rng.uniform(0, 4) * mask).astype(np.float32), mask


@pytest.mark.parametrize("seed", range(20))
def test_all_are_scikit_learns(seed: int) -> None:
    logits, mask = image(seed)
    fov = np.random.default_rng(seed + 100).random(mask.shape) < 0.8
    values = measure(logits, mask, fov)
    truth, guess, scores = mask[fov], logits[fov] > 0, logits[fov]
    assert tuple(values) == METRICS
    assert values["dice"] == pytest.approx(oracle.f1_score(truth, guess), abs=1e-12)
    assert values["iou"] == pytest.approx(oracle.jaccard_score(truth, guess), abs=1e-12)
    assert values["sensitivity"] == pytest.approx(oracle.recall_score(truth, guess), abs=1e-12)
    assert values["specificity"] == pytest.approx(oracle.recall_score(~truth, ~guess), abs=1e-12)
    assert values["accuracy"] == pytest.approx(oracle.accuracy_score(truth, guess), abs=1e-12)
    assert values["auc"] == pytest.approx(oracle.roc_auc_score(truth, scores), abs=1e-4)


@given(
    scores=arrays(np.float16, (5, 6), elements=st.floats(-4, 4, width=16)),
    mask=arrays(bool, (5, 6)),
)
@settings(max_examples=200, deadline=None, derandomize=True)
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


@pytest.mark.parametrize(
    ("guess", "mask", "expected"),
    [  # dice, iou, auc, sensitivity, specificity, accuracy
        (EMPTY, EMPTY, (1, 1, nan, nan, 1, 1)),
        (CORNER, EMPTY, (0, 0, nan, nan, 0.75, 0.75)),
        (FULL, EMPTY, (0, 0, nan, nan, 0, 0)),
        (EMPTY, CORNER, (0, 0, 0.5, 0, 1, 0.75)),
        (CORNER, CORNER, (1, 1, 1, 1, 1, 1)),
        (~CORNER, CORNER, (0, 0, 0, 0, 0, 0)),
        (FULL, CORNER, (0.4, 0.25, 0.5, 1, 0, 0.25)),
        (EMPTY, FULL, (0, 0, nan, 0, nan, 0)),
        (CORNER, FULL, (0.4, 0.25, nan, 0.25, nan, 0.25)),
        (FULL, FULL, (1, 1, nan, 1, nan, 1)),
    ],
)
def test_the_degenerate_cases(guess: NDArray[np.bool_], mask: NDArray[np.bool_], expected: tuple[float, ...]) -> None:
    assert tuple(measure(sure(guess), mask).values()) == pytest.approx(expected, nan_ok=True)


def test_without_a_pixel_nothing_is_defined() -> None:
    values = measure(sure(CORNER), CORNER, EMPTY)
    assert all(isnan(value) for value in values.values())
    assert confusion(sure(CORNER), CORNER, EMPTY).pixels == 0


def test_only_the_field_of_view_counts() -> None:
    logits, mask = image(3)
    fov = np.zeros_like(mask)
    fov[5:30, 7:44] = True
    nonsense = np.where(fov, logits, -logits)
    cropped = measure(logits[5:30, 7:44], mask[5:30, 7:44])
    assert measure(nonsense, mask, fov) == cropped
    assert measure(logits, mask) != cropped
    assert confusion(logits, mask, fov).pixels == 25 * 37


def test_a_black_border_flatters_accuracy_and_auc() -> None:
    logits, mask = image(4)
    fov = np.zeros_like(mask)
    fov[:, :25] = True
    border = np.where(fov, logits, -20)
    inside, whole = measure(border, mask & fov, fov), measure(border, mask & fov)
    assert whole["accuracy"] > inside["accuracy"]
    assert whole["auc"] > inside["auc"]
    assert whole["dice"] == inside["dice"]


def test_a_logit_of_zero_is_not_predicted() -> None:
    assert confusion(np.zeros((4, 4)), CORNER).dice == 0
    assert confusion(np.full((4, 4), 1e-30), FULL).dice == 1


def test_only_the_asked_metrics_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> float:
        raise AssertionError("the AUC was not asked for")

    monkeypatch.setattr("sam2lora.metrics.auc", refuse)
    assert measure(sure(CORNER), CORNER, None, ("dice", "iou")) == {"dice": 1, "iou": 1}


def test_arguments_are_left_alone() -> None:
    logits, mask = image(5)
    fov = mask.copy()
    kept = logits.copy(), mask.copy(), fov.copy()
    measure(logits, mask, fov)
    assert all(np.array_equal(now, before) for now, before in zip((logits, mask, fov), kept, strict=True))


@pytest.mark.parametrize("function", [auc, confusion])
def test_broken_input_is_refused(function: type) -> None:
    with pytest.raises(ValueError, match="one shape"):
        function(sure(CORNER), CORNER[:3])
    with pytest.raises(ValueError, match="one shape"):
        function(sure(CORNER), CORNER, FULL[:3])
    broken = sure(CORNER)
    broken[0, 0] = nan
    with pytest.raises(ValueError, match="one is NaN"):
        function(broken, CORNER)
