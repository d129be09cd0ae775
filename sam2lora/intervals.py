"""Interval of a mean over images that come in clusters (patients). Pure: numpy in, numbers out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

Range = tuple[float, float]
ANY: Range = (-math.inf, math.inf)


@dataclass(frozen=True)
class MeanInterval:
    """A mean over images with its 95 % interval.

    ``n``: images with a defined score, over which the mean is taken; ``undefined``: images whose score is not a number,
    left out of it; ``clusters``: patients among the ``n``. ``low`` and ``high`` are NaN below two clusters, ``mean`` is
    NaN without a defined score.
    """

    mean: float
    low: float
    high: float
    n: int
    clusters: int
    undefined: int


_SHARES = ("dice", "iou", "auc", "sensitivity", "specificity", "accuracy", "precision", "boundary_iou", "cldice", "ece")
_FULL = ("accuracy_full", "auc_full")
_RANGES: dict[str, Range] = {
    **dict.fromkeys(_SHARES + _FULL, (0.0, 1.0)),
    "mcc": (-1.0, 1.0),
    **dict.fromkeys(("hd95", "assd"), (0.0, math.inf)),
}


def possible(metric: str) -> Range:
    """The least and the largest value that a metric can have; `ANY` of a name that is no metric of ours."""
    return _RANGES.get(metric, ANY)


def mean_interval(values: npt.ArrayLike, clusters: npt.ArrayLike, within: Range = ANY) -> MeanInterval:
    """The mean of ``values (n,)`` and its interval over ``clusters (n,)``, cut to ``within``.

    Images of one patient resemble each other, so it is patients that are counted. The standard error is the cluster-
    robust one of a mean with the correction CR2, its t quantile has the degrees of freedom of Bell and McCaffrey
    (2002, *Survey Methodology* 28(2)), as advised for few clusters by Imbens and Kolesár (2016, *Review of Economics
    and Statistics* 98(4)). With as many images of every patient that is Student's interval of the patients' means.
    Coverage on normal scores, 3 to 28 patients of 1 to 6 images: 94 to 96 % (``benchmarks.search_rates``).
    """
    scores, names = np.asarray(values, dtype=np.float64), np.asarray(clusters).astype(str)
    defined = np.isfinite(scores)
    n, undefined = int(defined.sum()), int((~defined).sum())
    if n == 0:
        return MeanInterval(math.nan, math.nan, math.nan, 0, 0, undefined)
    _, index = np.unique(names[defined], return_inverse=True)
    sums, counts = np.bincount(index, weights=scores[defined]), np.bincount(index)
    k, mean = len(counts), float(scores[defined].mean())
    if k < 2:
        return MeanInterval(mean, math.nan, math.nan, n, k, undefined)
    share = counts / n
    error = math.sqrt(float(np.sum((sums / n - mean * share) ** 2 / (1.0 - share))))
    reach = -float(stdtrit(_degrees(share), 0.025)) * error
    low, high = (min(max(end, within[0]), within[1]) for end in (mean - reach, mean + reach))
    return MeanInterval(mean, low, high, n, k, undefined)


def nothing_to_find(dataset: str, empty: int, images: int) -> str:
    """What to know of the Dice of a set in which ``empty`` of ``images`` have no pixel of the structure: those whose
    sensitivity is undefined."""
    return (
        f"{dataset}: {empty} of {images} images have nothing to find in the field of view. Their Dice and IoU are 1 "
        "where nothing is found, else 0."
    )


def _degrees(share: npt.NDArray[np.float64]) -> float:
    """Degrees of freedom of the squared standard error, for clusters with these shares of the images.

    It is a quadratic form of the clusters' sums; Satterthwaite's (trace)^2 / trace of the square, images independent.
    """
    weight = share / (1.0 - share)
    form = np.diag(1.0 / (1.0 - share)) - weight[:, None] - weight[None, :] + float(share @ weight)
    return float((share @ np.diag(form)) ** 2 / (share @ form**2 @ share))
