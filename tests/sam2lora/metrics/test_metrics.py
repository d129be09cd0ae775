"""Metrics of one image against scikit-learn, and in every case where a formula divides by zero."""

from __future__ import annotations

from math import isnan, nan
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sklearn import metrics as oracle

from sam2lora.metrics import METRICS, Metric, confusion, measure

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
    assert values["precision"] == pytest.approx(oracle.precision_score(truth, guess), abs=1e-12)
    assert values["mcc"] == pytest.approx(oracle.matthews_corrcoef(truth, guess), abs=1e-12)
    assert values["auc"] == pytest.approx(oracle.roc_auc_score(truth, scores), abs=1e-4)
    assert values["accuracy_full"] == pytest.approx(oracle.accuracy_score(mask.ravel(), logits.ravel() > 0), abs=1e-12)
    assert values["auc_full"] == pytest.approx(oracle.roc_auc_score(mask.ravel(), logits.ravel()), abs=1e-4)


def test_every_metric_is_declared_and_measured() -> None:
    assert get_args(Metric) == METRICS


# The metrics whose degenerate cases the table of the module states.
STATED: tuple[Metric, ...] = (
    "dice", "iou", "auc", "sensitivity", "specificity", "accuracy",
    "precision", "mcc", "hd95", "assd", "boundary_iou", "cldice",
)  # fmt: skip


@pytest.mark.parametrize(
    ("guess", "mask", "expected"),
    [  # dice, iou, auc, sensitivity, specificity, accuracy, precision, mcc, hd95, assd, boundary IoU, clDice
        (EMPTY, EMPTY, (1, 1, nan, nan, 1, 1, nan, nan, 0, 0, 1, 1)),
        (CORNER, EMPTY, (0, 0, nan, nan, 0.75, 0.75, 0, nan, nan, nan, 0, nan)),
        (FULL, EMPTY, (0, 0, nan, nan, 0, 0, 0, nan, nan, nan, nan, nan)),
        (EMPTY, CORNER, (0, 0, 0.5, 0, 1, 0.75, nan, nan, nan, nan, 0, nan)),
        (CORNER, CORNER, (1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1)),
        (~CORNER, CORNER, (0, 0, 0, 0, 0, 0, 0, -1, 1, 1, 0, 0)),
        (FULL, CORNER, (0.4, 0.25, 0.5, 1, 0, 0.25, 0.25, nan, nan, nan, 0, 0)),
        (EMPTY, FULL, (0, 0, nan, 0, nan, 0, nan, nan, nan, nan, nan, nan)),
        (CORNER, FULL, (0.4, 0.25, nan, 0.25, nan, 0.25, 1, nan, nan, nan, 0, 0)),
        (FULL, FULL, (1, 1, nan, 1, nan, 1, 1, nan, 0, 0, 1, 1)),
    ],
)
def test_the_degenerate_cases(guess: NDArray[np.bool_], mask: NDArray[np.bool_], expected: tuple[float, ...]) -> None:
    values = measure(sure(guess), mask, None, STATED)
    assert values == pytest.approx(dict(zip(STATED, expected, strict=True)), nan_ok=True)


def test_of_one_class_only_the_auc_is_undefined_and_calibration_is_not() -> None:
    """The metrics that the table above leaves out; outside the field of view there may be another class."""
    fov = CORNER | CORNER.T
    for mask in (EMPTY, FULL):
        values = measure(sure(CORNER), mask, None, ("auc_full", "accuracy_full", "ece"))
        assert isnan(values["auc_full"])
        assert values["accuracy_full"] == (0.25 if mask.all() else 0.75)
        assert 0 < values["ece"] < 1
    assert isnan(measure(sure(CORNER), CORNER, fov, ("auc",))["auc"])
    assert measure(sure(CORNER), CORNER, fov, ("auc_full",))["auc_full"] == 1


def test_without_a_pixel_nothing_is_defined() -> None:
    for guess in (EMPTY, CORNER, FULL):
        values = measure(sure(guess), CORNER, EMPTY)
        assert {name for name, value in values.items() if not isnan(value)} == {"accuracy_full", "auc_full"}
    assert confusion(sure(CORNER), CORNER, EMPTY).pixels == 0


def test_only_the_field_of_view_counts() -> None:
    logits, mask = image(3)
    fov = np.zeros_like(mask)
    fov[5:30, 7:44] = True
    nonsense = np.where(fov, logits, -logits)
    inside = tuple(name for name in METRICS if not name.endswith("_full"))
    cropped = measure(logits[5:30, 7:44], mask[5:30, 7:44], None, inside)
    assert measure(nonsense, mask, fov, inside) == cropped
    assert measure(logits, mask, None, inside) != cropped
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
    assert inside["accuracy_full"] == whole["accuracy"] == whole["accuracy_full"]
    assert inside["auc_full"] == whole["auc"] == whole["auc_full"]


def test_a_logit_of_zero_is_not_predicted() -> None:
    assert confusion(np.zeros((4, 4)), CORNER).dice == 0
    assert confusion(np.full((4, 4), 1e-30), FULL).dice == 1


def test_only_the_asked_metrics_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> float:
        raise AssertionError("it was not asked for")

    for costly in ("histogram", "distances", "boundary_iou", "cldice"):
        monkeypatch.setattr(f"sam2lora.metrics.{costly}", refuse)
    assert measure(sure(CORNER), CORNER, None, ("dice", "iou")) == {"dice": 1, "iou": 1}


def test_the_cut_moves_what_is_predicted_and_leaves_auc_and_calibration_alone() -> None:
    logits, mask = image(6)
    fov = np.ones_like(mask)
    same, moved = measure(logits, mask, fov, cut=1.25), measure(logits - np.float32(1.25), mask, fov)
    for name in METRICS:
        if name not in ("auc", "auc_full", "ece"):
            assert same[name] == pytest.approx(moved[name], abs=1e-12), name
            assert same[name] != measure(logits, mask, fov)[name], name
    for name in ("auc", "auc_full", "ece"):
        assert same[name] == measure(logits, mask, fov)[name]


SHARES = tuple(name for name in METRICS if name not in ("mcc", "hd95", "assd"))
# Swapping prediction and truth turns these into each other.
SWAPPED = {"sensitivity": "precision", "precision": "sensitivity"}
SYMMETRIC = ("dice", "iou", "accuracy", "mcc", "hd95", "assd", "boundary_iou", "cldice", "accuracy_full")
masks = arrays(bool, (12, 17), elements=st.booleans())
pairs = given(guess=masks, mask=masks, fov=masks)
small = settings(max_examples=60)


def same(one: float, other: float) -> bool:
    return one == pytest.approx(other, abs=1e-9, nan_ok=True)


@pairs
@small
def test_metrics_are_in_range(guess: NDArray[np.bool_], mask: NDArray[np.bool_], fov: NDArray[np.bool_]) -> None:
    values = measure(sure(guess), mask, fov)
    assert all(isnan(values[name]) or 0 <= values[name] <= 1 for name in SHARES)
    assert isnan(values["mcc"]) or -1 <= values["mcc"] <= 1
    assert isnan(values["hd95"]) or 0 <= values["hd95"] <= np.hypot(11, 16)
    assert isnan(values["assd"]) or 0 <= values["assd"] <= np.hypot(11, 16)
    assert isnan(values["hd95"]) == isnan(values["assd"])


@pairs
@small
def test_metrics_are_symmetric(guess: NDArray[np.bool_], mask: NDArray[np.bool_], fov: NDArray[np.bool_]) -> None:
    there, back = measure(sure(guess), mask, fov), measure(sure(mask), guess, fov)
    assert all(same(there[name], back[name]) for name in SYMMETRIC)
    assert all(same(there[name], back[other]) for name, other in SWAPPED.items())


@pairs
@small
def test_metrics_see_no_direction(guess: NDArray[np.bool_], mask: NDArray[np.bool_], fov: NDArray[np.bool_]) -> None:
    """Mirrored and transposed images score alike; only thinning, in clDice, has a side from which it begins."""
    still = tuple(name for name in METRICS if name != "cldice")
    whole = measure(sure(guess), mask, fov, still)
    for turn in (np.fliplr, np.flipud, np.transpose):
        turned = measure(sure(turn(guess)), turn(mask), turn(fov), still)
        assert all(same(turned[name], whole[name]) for name in still)


@given(mask=masks, fov=masks)
@small
def test_a_mask_is_its_own_best_prediction(mask: NDArray[np.bool_], fov: NDArray[np.bool_]) -> None:
    values = measure(sure(mask), mask, fov)
    best = dict.fromkeys(SHARES, 1.0) | {"mcc": 1.0, "hd95": 0.0, "assd": 0.0, "ece": values["ece"]}
    assert all(isnan(value) or same(value, best[name]) for name, value in values.items())
    for name in ("dice", "iou", "hd95", "assd", "boundary_iou"):
        assert isnan(values[name]) == (not fov.any())


def test_arguments_are_left_alone() -> None:
    logits, mask = image(5)
    fov = mask.copy()
    kept = logits.copy(), mask.copy(), fov.copy()
    measure(logits, mask, fov)
    assert all(np.array_equal(now, before) for now, before in zip((logits, mask, fov), kept, strict=True))


def test_broken_input_is_refused() -> None:
    broken = sure(CORNER)
    broken[0, 0] = nan
    for name in METRICS:
        with pytest.raises(ValueError, match="one shape"):
            measure(sure(CORNER), CORNER[:3], None, (name,))
        with pytest.raises(ValueError, match="one shape"):
            measure(sure(CORNER), CORNER, FULL[:3], (name,))
        with pytest.raises(ValueError, match="one is NaN"):
            measure(broken, CORNER, None, (name,))
