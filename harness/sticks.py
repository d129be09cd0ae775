"""Stick breaking: points of the simplex out of independent numbers. Without torch, so that a report can use it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ABSENT = 0.15
"""Probability that a component is absent, unless a search says otherwise."""


def share(drawn: npt.NDArray[np.float64], behind: int) -> npt.NDArray[np.float64]:
    """What a component takes of the rest: a share that leaves ``behind`` exchangeable others is Beta(1, behind)."""
    quantile: npt.NDArray[np.float64] = 1.0 - (1.0 - np.clip(drawn, 0.0, 1.0)) ** (1.0 / behind)
    return quantile


def uniform(components: int, count: int, rng: np.random.Generator, absent: float = ABSENT) -> npt.NDArray[np.float64]:
    """Weights (count, components) as `harness.simplex` has them of uniform draws, the components in random order.

    ``components`` is 2 or more.
    """
    weights, rest = np.zeros((count, components)), np.ones(count)
    full = absent / components
    inner = 1.0 - absent - full
    for place in range(components - 1):
        drawn = rng.uniform(-absent / inner, 1.0 + full / inner, count)
        part = share(drawn, components - 1 - place)
        weights[:, place] = rest * part
        rest = np.where(part == 1.0, 0.0, rest - weights[:, place])
    weights[:, -1] = rest
    return rng.permuted(weights, axis=1)
