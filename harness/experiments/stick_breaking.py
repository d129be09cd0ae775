"""Stick breaking: points of the simplex out of independent numbers. Without torch, so that a report can use it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ABSENT = 0.15
"""Probability that a component is absent, unless a search says otherwise."""


def ends(components: int, absent: float) -> tuple[float, float]:
    """Between which numbers a component's share is drawn, before it is cut to [0, 1].

    Of uniform draws a share ``absent`` is then 0, and ``absent / components`` is 1.
    """
    full = absent / components
    inner = 1.0 - absent - full
    return -absent / inner, 1.0 + full / inner


def share(drawn: npt.NDArray[np.float64], behind: int) -> npt.NDArray[np.float64]:
    """The share of the rest that a component takes: with ``behind`` exchangeable ones after it, Beta(1, behind)."""
    quantile: npt.NDArray[np.float64] = 1.0 - (1.0 - np.clip(drawn, 0.0, 1.0)) ** (1.0 / behind)
    return quantile


def uniform(components: int, count: int, rng: np.random.Generator, absent: float = ABSENT) -> npt.NDArray[np.float64]:
    """Weights (count, components) as `harness.experiments.simplex` has them of uniform draws.

    The components are in random order. ``components`` is 2 or more.
    """
    weights, rest = np.zeros((count, components)), np.ones(count)
    for place in range(components - 1):
        part = share(rng.uniform(*ends(components, absent), count), components - 1 - place)
        weights[:, place] = rest * part
        rest = np.where(part == 1.0, 0.0, rest - weights[:, place])
    weights[:, -1] = rest
    return rng.permuted(weights, axis=1)
