"""Values of components with their intervals, as bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from harness.reports.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Value(NamedTuple):
    """A component's value with its interval; NaN bounds where there is none."""

    name: str
    value: float
    low: float
    high: float


def draw(values: Sequence[Value], axis: str) -> Figure:
    """A bar per component, its interval on it. A bar whose interval holds 0, or that has none, is hatched:
    its sign is not known."""
    figure = style.figure(7.2, 1.1 + 0.42 * len(values))
    axes = figure.add_subplot()
    for place, one in enumerate(values):
        known = one.low > 0 or one.high < 0
        axes.barh(
            place, one.value, height=0.6, color=style.ESTIMATE if known else style.PAPER, edgecolor=style.ESTIMATE,
            hatch=None if known else style.UNKNOWN_SIGN, lw=1.0,
        )  # fmt: skip
        if np.isfinite(one.low):
            span = [[one.value - one.low], [one.high - one.value]]
            axes.errorbar([one.value], [place], xerr=span, fmt="none", ecolor=style.INK, capsize=3, lw=1.3)
    axes.axvline(0, color=style.INK, lw=0.8)
    style.rows(axes, [one.name for one in values])
    axes.set_xlabel(axis)
    return figure
