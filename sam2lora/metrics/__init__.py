"""Metrics of one segmented image: pure functions of numpy arrays.

A pixel is predicted where its logit lies above a cut, 0 unless said otherwise: a probability above 0.5. Only the pixels
of the field of view count: on a fundus photograph the black border is predicted right for nothing, and raises accuracy
and AUC. By how much is what ``accuracy_full`` and ``auc_full`` show, which take the whole photograph as much published
work does; they are for comparison with it and for nothing else. ``hd95`` and ``assd`` are in pixels of the photograph
itself, not comparable between cameras; everything else is a share, ``mcc`` one from -1 to 1. ``auc``, ``auc_full`` and
``ece`` do not depend on the cut.

What a metric is when its formula divides by zero:

=====================  ============================================================================================
both empty             Dice = IoU = boundary IoU = clDice = 1, HD95 = ASSD = 0, specificity = accuracy = 1; AUC,
                       sensitivity, precision and MCC are NaN
only the mask empty    Dice = IoU = boundary IoU = precision = 0; AUC, sensitivity, MCC, HD95, ASSD, clDice NaN
only nothing found     Dice = IoU = boundary IoU = sensitivity = 0; precision, MCC, HD95, ASSD, clDice NaN
mask full              AUC, specificity, MCC NaN; HD95 = ASSD = 0 and boundary IoU = 1 if the prediction is full too,
                       else HD95 and ASSD NaN: a full mask has no contour inside the field of view
prediction full        MCC NaN; HD95 and ASSD NaN unless the mask is full too
one empty, one full    boundary IoU NaN besides: neither has a contour
a skeleton is empty    clDice NaN, unless both masks are empty
field of view empty    all NaN (``accuracy_full`` and ``auc_full`` excepted)
=====================  ============================================================================================

NaN says "undefined for this image": a mean leaves it out and counts it, and never replaces it by 0, by 0.5 or by the
image's diagonal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from math import inf
from typing import Final, Literal

import cv2
import numpy as np

from sam2lora.metrics.arrays import Mask, NotNumbers, Scores, checked
from sam2lora.metrics.centreline import cldice
from sam2lora.metrics.confusion import Confusion, confusion
from sam2lora.metrics.contours import Distances, boundary_iou, distances
from sam2lora.metrics.histogram import Histogram, histogram
from sam2lora.metrics.reading import Reading

Metric = Literal[
    "dice",
    "iou",
    "auc",
    "sensitivity",
    "specificity",
    "accuracy",
    "precision",
    "mcc",
    "hd95",
    "assd",
    "boundary_iou",
    "cldice",
    "ece",
    "accuracy_full",
    "auc_full",
]


def measure(
    logits: Scores,
    mask: Mask,
    fov: Mask | None = None,
    metrics: Sequence[Metric] | None = None,
    cut: float = 0.0,
) -> dict[str, float]:
    """The named metrics of one image (None: all of ``METRICS``), in that order.

    ``logits``, ``mask``, ``fov`` (None: everywhere): (H, W). ``cut``: a pixel is predicted where its logit is larger.
    Raises ``ValueError`` if the shapes differ or, as ``NotNumbers``, if a logit is NaN.

    What several metrics share is computed once, and nothing that is not asked for: Dice alone, the fast path of
    validation, takes a hundredth of the time of all.
    """
    pair = _Pair(logits, mask, np.ones_like(mask) if fov is None else fov, cut)
    return {name: _METRICS[name][0](pair) for name in (METRICS if metrics is None else metrics)}


class _Pair:
    """A prediction and its truth."""

    def __init__(self, logits: Scores, mask: Mask, fov: Mask, cut: float) -> None:
        self.logits, self.mask, self.fov, self.cut = checked(logits, mask, fov), mask, fov, cut

    @cached_property
    def counts(self) -> Confusion:
        return confusion(self.logits, self.mask, self.fov, self.cut)

    @cached_property
    def histogram(self) -> Histogram:
        return histogram(self.logits, self.mask, self.fov)

    @cached_property
    def inside(self) -> tuple[Mask, Mask, Mask]:
        """Prediction, mask and field of view within the bounding box of the field of view."""
        left, top, width, height = cv2.boundingRect(self.fov.view(np.uint8))
        window = slice(top, top + height), slice(left, left + width)
        return self.logits[window] > self.cut, self.mask[window], self.fov[window]

    @cached_property
    def distances(self) -> Distances:
        return distances(*self.inside)


_METRICS: Final[dict[Metric, tuple[Callable[[_Pair], float], Reading]]] = {
    "dice": (lambda pair: pair.counts.dice, Reading("Dice")),
    "iou": (lambda pair: pair.counts.iou, Reading("IoU")),
    "auc": (lambda pair: pair.histogram.auc, Reading("AUC")),
    "sensitivity": (lambda pair: pair.counts.sensitivity, Reading("sensitivity")),
    "specificity": (lambda pair: pair.counts.specificity, Reading("specificity")),
    "accuracy": (lambda pair: pair.counts.accuracy, Reading("accuracy")),
    "precision": (lambda pair: pair.counts.precision, Reading("precision")),
    "mcc": (lambda pair: pair.counts.mcc, Reading("MCC", low=-1.0)),
    "hd95": (lambda pair: pair.distances.hd95, Reading("HD95", unit="pixels", smaller=True, high=inf)),
    "assd": (lambda pair: pair.distances.assd, Reading("ASSD", unit="pixels", smaller=True, high=inf)),
    "boundary_iou": (lambda pair: boundary_iou(*pair.inside), Reading("boundary IoU")),
    "cldice": (lambda pair: cldice(*pair.inside), Reading("clDice")),
    "ece": (lambda pair: pair.histogram.ece, Reading("ECE", smaller=True)),
    "accuracy_full": (
        lambda pair: confusion(pair.logits, pair.mask, None, pair.cut).accuracy,
        Reading("accuracy, full photograph"),
    ),
    "auc_full": (
        lambda pair: (pair.histogram + histogram(pair.logits, pair.mask, ~pair.fov)).auc,
        Reading("AUC, full photograph"),
    ),
}

METRICS: Final[tuple[Metric, ...]] = tuple(_METRICS)


def reading(metric: str) -> Reading:
    """How ``metric`` is read. A name that is none of ``METRICS`` has no bounds, and larger is better."""
    return _READINGS.get(metric, Reading(metric, low=-inf, high=inf))


_READINGS: Final[dict[str, Reading]] = {name: how[1] for name, how in _METRICS.items()}

__all__ = [
    "METRICS",
    "Confusion",
    "Distances",
    "Histogram",
    "Mask",
    "Metric",
    "NotNumbers",
    "Reading",
    "Scores",
    "boundary_iou",
    "cldice",
    "confusion",
    "distances",
    "histogram",
    "measure",
    "reading",
]
