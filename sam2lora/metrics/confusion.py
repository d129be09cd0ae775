"""The confusion of a predicted and a true mask, and what follows from its four counts."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np

from sam2lora.metrics.arrays import Mask, Scores, checked


@dataclass(frozen=True)
class Confusion:
    """The four counts of a predicted against a true mask, in pixels."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def pixels(self) -> int:
        """How many pixels were compared."""
        return self.true_positive + self.false_positive + self.false_negative + self.true_negative

    @property
    def dice(self) -> float:
        """``2 TP / (2 TP + FP + FN)``; 1 if both masks are empty, NaN without a pixel."""
        doubled = 2 * self.true_positive
        return self._overlap(doubled, doubled + self.false_positive + self.false_negative)

    @property
    def iou(self) -> float:
        """``TP / (TP + FP + FN)``; 1 if both masks are empty, NaN without a pixel."""
        return self._overlap(self.true_positive, self.true_positive + self.false_positive + self.false_negative)

    @property
    def sensitivity(self) -> float:
        """``TP / (TP + FN)``: the share of the mask that was found; NaN if the mask is empty."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> float:
        """``TN / (TN + FP)``: the share of the background that was left alone; NaN if the mask is full."""
        return _ratio(self.true_negative, self.true_negative + self.false_positive)

    @property
    def precision(self) -> float:
        """``TP / (TP + FP)``: the share of the prediction that is right; NaN if nothing is predicted."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def accuracy(self) -> float:
        """``(TP + TN) / pixels``; NaN without a pixel."""
        return _ratio(self.true_positive + self.true_negative, self.pixels)

    @property
    def mcc(self) -> float:
        """The correlation of the two masks in [-1, 1] (Matthews 1975); NaN if either of them is empty or full.

        ``(TP TN - FP FN) / sqrt((TP + FP) (TP + FN) (TN + FP) (TN + FN))``.
        """
        tp, fp, fn, tn = self.true_positive, self.false_positive, self.false_negative, self.true_negative
        spread = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
        return (tp * tn - fp * fn) / sqrt(spread) if spread else nan

    def _overlap(self, shared: int, either: int) -> float:
        return 1.0 if either == 0 and self.pixels > 0 else _ratio(shared, either)


def confusion(logits: Scores, mask: Mask, fov: Mask | None = None, cut: float = 0.0) -> Confusion:
    """Counts of ``logits > cut`` against ``mask`` inside ``fov`` (None: everywhere); all of shape (H, W).

    Raises ``ValueError`` if the shapes differ or a logit is NaN.
    """
    predicted = checked(logits, mask, fov) > cut
    inside = np.ones_like(mask) if fov is None else fov
    predicted &= inside
    pixels, positives = _count(inside), _count(mask & inside)
    marked, tp = _count(predicted), _count(predicted & mask)
    return Confusion(tp, marked - tp, positives - tp, pixels - positives - marked + tp)


def _count(mask: Mask) -> int:
    return int(np.count_nonzero(mask))


def _ratio(numerator: int, denominator: int) -> float:
    return numerator / denominator if denominator else nan
