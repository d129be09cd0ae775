"""Power: how often a verdict is reached, for an effect and variances that are given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, stdtrit

from harness.inference.cells import Floats
from harness.inference.crossed import Parts
from harness.inference.effects import FEWEST

GOAL = 0.8
"""The power that "expected" means."""
MOST = 1000
"""Replicates above which nobody waits for a verdict."""


@dataclass(frozen=True)
class ContrastNoise:
    """What a contrast's uncertainty is made of.

    ``replicate``: variance of one replicate's contrast, averaged over images and targets; ``residual``: what of it is
    drawn anew on every image. ``images``: variance that no replicate shrinks, with ``df_images`` degrees of freedom.
    """

    replicate: float
    images: float
    df_images: float
    residual: float = 0.0

    @classmethod
    def of(cls, parts: Parts, replicates: int) -> ContrastNoise:
        """As the data of a study of ``replicates`` have it: one estimate, without leading axes."""
        fixed = float(parts.fixed())
        shrinks = float(parts.total()) - fixed
        return cls(replicates * shrinks, fixed, float(parts.degrees[-1]), replicates * float(parts.residual))


def power(effect: float, variances: ContrastNoise, replicates: int, level: float = 0.05) -> float:
    """The chance that a true ``effect`` is found different from 0, in either direction, at ``level``.

    ``level``: that of the one test, so alpha / m for a promise that holds in a family of m (Holm does no worse).
    Averages the normal probability over the quantiles of both variance estimates, which the margin is made of.
    """
    margin, se = _margins(variances, replicates, level)
    if se == 0.0:
        return float(effect != 0.0)
    return float((ndtr((effect - margin) / se) + ndtr((-effect - margin) / se)).mean())


def equivalence_power(
    effect: float, variances: ContrastNoise, replicates: int, smallest: float, level: float = 0.05
) -> float:
    """The chance that a true ``effect`` is shown to be within +-``smallest`` at ``level`` by two one-sided tests."""
    margin, se = _margins(variances, replicates, 2.0 * level)
    if se == 0.0:
        return float(abs(effect) < smallest)
    inside = ndtr((smallest - margin - effect) / se) - ndtr((margin - smallest - effect) / se)
    return float(np.maximum(inside, 0.0).mean())


def minimum_detectable(variances: ContrastNoise, replicates: int, level: float = 0.05, goal: float = GOAL) -> float:
    """The smallest true effect that is found with probability ``goal``; 0 where nothing varies."""
    margin, se = _margins(variances, replicates, level)
    if se == 0.0:
        return 0.0
    highest = float(margin.max()) + 10.0 * se
    return float(brentq(lambda effect: power(effect, variances, replicates, level) - goal, 0.0, highest))


def replicates_needed(
    effect: float, variances: ContrastNoise, level: float = 0.05, smallest: float | None = None, goal: float = GOAL
) -> int | None:
    """The fewest replicates (three or more) with which a verdict is expected: of a difference at ``level``, or, where
    ``smallest`` is given, of equivalence. None if ``MOST`` do not suffice, be it that the images alone leave too much.
    """

    def expected(replicates: int) -> bool:
        if power(effect, variances, replicates, level) >= goal:
            return True
        return smallest is not None and equivalence_power(effect, variances, replicates, smallest, level) >= goal

    if not expected(MOST):
        return None
    low, high = FEWEST - 1, FEWEST
    while not expected(high):
        low, high = high, min(2 * high, MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if expected(middle) else (middle, high)
    return high


def _margins(variances: ContrastNoise, replicates: int, level: float) -> tuple[Floats, float]:
    """The margins of a two-sided test, over the quantiles of both variance estimates, and the true standard error."""
    free, residual = replicates - 1.0, variances.residual / replicates
    mine = variances.replicate / replicates * _quantiles(free, 200)[:, None]
    theirs = (variances.images + residual) * _quantiles(variances.df_images, 25)
    if variances.df_images < free:
        mine = np.maximum(0.0, mine - residual)
    else:
        theirs = np.maximum(0.0, theirs - residual)
    squares = mine * stdtrit(free, level / 2.0) ** 2 + theirs * stdtrit(variances.df_images, level / 2.0) ** 2
    return np.sqrt(squares), float(np.sqrt(variances.replicate / replicates + variances.images))


def _quantiles(df: float, count: int) -> Floats:
    """Quantiles of a variance estimate with ``df`` degrees of freedom, relative to the truth."""
    return np.asarray(chdtri(df, (np.arange(count) + 0.5) / count) / df, dtype=np.float64)
