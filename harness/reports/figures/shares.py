"""Where scores vary: each source's share of the variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.reports.figures import style
from harness.stats.variance_components import Part

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(parts: Sequence[Part]) -> Figure:
    """A bar for the share of each part."""
    shares = [part.share for part in parts]
    figure = style.figure(7.2, 0.9 + 0.34 * len(parts))
    axes = figure.add_subplot()
    axes.barh(range(len(parts)), np.nan_to_num(shares), height=0.62, color=style.SHARE)
    for place, share in enumerate(shares):
        axes.text(share + 0.008, place, f"{share:.1%}".replace("%", " %"), va="center", fontsize=9)
    style.rows(axes, [part.source for part in parts])
    axes.set_xlim(0, min(1.12, max([*shares, 0.1]) * 1.18))
    axes.set_xlabel("share of the variance of a single image's score")
    return figure
