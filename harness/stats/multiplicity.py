"""The multiplicity correction: p-values of a family of hypotheses, adjusted so that it keeps one error rate.

Every family is adjusted here: contrasts, interactions, differences of ranks, terms of a mixture, settings of a search.
"""

from __future__ import annotations

import numpy as np

from harness.stats.scores import Floats

CORRECTION, REFERENCE = "Holm", "Holm 1979"
"""The name of the correction in reports, and the paper."""


def adjust(p: Floats) -> Floats:
    """p-values adjusted for their family (Holm 1979): reject where the adjusted one is at most alpha.

    ``p``: (..., m), each row a family; NaN is a hypothesis that could not be tested, stays NaN and still counts in m.
    The k-th smallest is multiplied by m - k + 1, made non-decreasing and cut at 1. The chance of one or more false
    rejections is at most alpha, however the hypotheses depend on one another. statsmodels' ``multipletests`` gives the
    same for a single family; simulations adjust thousands at once.
    """
    count = p.shape[-1]
    order = np.argsort(np.where(np.isnan(p), np.inf, p), axis=-1)
    ordered = np.take_along_axis(p, order, axis=-1)
    steps = np.fmax.accumulate(ordered * np.arange(count, 0, -1), axis=-1)
    stepped = np.where(np.isnan(ordered), np.nan, np.minimum(steps, 1.0))
    adjusted = np.empty_like(stepped)
    np.put_along_axis(adjusted, order, stepped, axis=-1)
    return adjusted
