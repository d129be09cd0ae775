"""Where scores vary: each source's share of the variance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from harness.reports.figures import style


def draw(names: Sequence[str], shares: Sequence[float]) -> Figure:
    """A bar a source, in the order given."""
    figure = style.figure(7.2, 0.9 + 0.34 * len(names))
    axes = figure.add_subplot()
    axes.barh(range(len(names)), np.nan_to_num(shares), height=0.62, color=style.SKY)
    for place, share in enumerate(shares):
        axes.text(share + 0.008, place, f"{share:.1%}".replace("%", " %"), va="center", fontsize=9)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, min(1.12, max([*shares, 0.1]) * 1.18))
    axes.set_xlabel("share of the variance of a single image's score")
    style.tidy(axes)
    axes.grid(False, axis="y")
    return figure
