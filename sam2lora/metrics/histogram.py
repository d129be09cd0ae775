"""The histogram of an image's logits on and off its mask, and what does not depend on one threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import nan
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from sam2lora.metrics.arrays import Mask, Scores, checked

Counts = NDArray[np.int64]

_Number = TypeVar("_Number", np.int64, np.float64)

CALIBRATION_BINS: Final = 15
"""Bins of the expected calibration error, of equal width in probability, as in Guo et al. 2017."""

_SIGN = 1 << 15


@dataclass(frozen=True, eq=False)
class Histogram:
    """How many pixels ``on`` and ``off`` the mask have each half-precision number as logit.

    Both (65536,), ascending by logit. Rounding a logit to half precision changes it by 0.05 % at most, and what is
    computed from a histogram takes microseconds however large the image was.
    """

    on: Counts
    off: Counts

    @property
    def auc(self) -> float:
        """The area under the ROC curve: how often a pixel of the mask outscores a pixel off it, ties counting half.

        Whole numbers up to the last division: exact, ties included, for logits that half precision represents; of
        continuous logits it differs by less than 1e-4. NaN if the mask is empty or full.
        """
        below_or_tied = 2 * np.cumsum(self.off) - self.off
        pairs = int(self.on.sum()) * int(self.off.sum())
        return int(self.on @ below_or_tied) / (2 * pairs) if pairs else nan

    @property
    def ece(self) -> float:
        """The expected calibration error in [0, 1] of p, the predicted probability that a pixel is on the mask.

        Pixels are put into `CALIBRATION_BINS` bins of equal width by p itself, not by the confidence max(p, 1 - p):
        ``sum over bins of n_bin / n * |mean of p - share of pixels on the mask|``. A bin holds its lower edge, and
        the last one p = 1 too. An empty bin adds nothing; NaN without a pixel.
        """
        pixels, p = self.on + self.off, _probabilities()
        bins = np.minimum((p * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
        excess = np.bincount(bins, weights=pixels * p - self.on)
        everything = int(pixels.sum())
        return float(np.abs(excess).sum()) / everything if everything else nan

    def __add__(self, other: Histogram) -> Histogram:
        """The histogram of the pixels of both."""
        return Histogram(self.on + other.on, self.off + other.off)

    def dice(self, cuts: Sequence[float] | NDArray[np.floating]) -> NDArray[np.float64]:
        """The Dice of ``logit > cut`` for each of the (n,) ``cuts``: ``Confusion.dice`` on the rounded logits."""
        beyond = np.searchsorted(_values(), cuts, side="right")
        found, marked = (_tail(counts)[beyond] for counts in (self.on, self.on + self.off))
        either = marked + self.on.sum()
        if not self.on.sum() + self.off.sum():
            return np.full(len(found), nan)
        return np.where(either == 0, 1.0, 2 * found / np.maximum(either, 1))


def histogram(logits: Scores, mask: Mask, fov: Mask | None = None) -> Histogram:
    """The histogram of ``logits`` inside ``fov`` (None: everywhere); all of shape (H, W). Takes linear time.

    Pass logits: probabilities near 1 lie too close together for half precision.
    Raises ``ValueError`` if the shapes differ or a logit is NaN.
    """
    logits = checked(logits, mask, fov)
    if fov is not None:
        logits, mask = logits[fov], mask[fov]
    with np.errstate(over="ignore"):  # a logit beyond 65504 becomes infinite, and still comes last
        bits = logits.astype(np.float16).view(np.uint16)
    on, everything = _counts(bits[mask]), _counts(bits)
    return Histogram(on, everything - on)


def _counts(bits: NDArray[np.uint16]) -> Counts:
    """How often each half-precision number occurs among the bit patterns ``bits``, ascending; the two zeros as one."""
    by_bits = np.bincount(bits.ravel(), minlength=1 << 16)
    by_bits[0] += by_bits[_SIGN]
    by_bits[_SIGN] = 0
    return _ascending(by_bits)


def _ascending(by_bits: NDArray[_Number]) -> NDArray[_Number]:
    return np.concatenate([by_bits[: _SIGN - 1 : -1], by_bits[:_SIGN]])


def _tail(counts: Counts) -> Counts:
    """(65537,): how many pixels lie at or beyond each position."""
    return np.concatenate([np.cumsum(counts[::-1])[::-1], [0]])


@lru_cache(maxsize=1)
def _values() -> NDArray[np.float64]:
    """The logit of every position of a histogram. The patterns that are no number never occur: they go to the ends."""
    values = _ascending(np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float64))
    values[np.isnan(values) & (np.arange(1 << 16) < _SIGN)] = -np.inf
    values[np.isnan(values)] = np.inf
    return values


@lru_cache(maxsize=1)
def _probabilities() -> NDArray[np.float64]:
    return np.asarray(expit(_values()))
