"""The fitted surface of a mixture design over three components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from harness.reports.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(
    surface: pd.DataFrame,
    components: Sequence[str],
    points: pd.DataFrame,
    best: Mapping[str, float],
    metric: str,
) -> Figure:
    """``surface``: a column of weights per component, ``predicted`` and ``in_region``; ``points``: the design's points
    with their mean ``score``. Dots mark lattice points that may be the best, none
    where no region can be given; the star is the predicted best."""
    figure = style.figure(7.2, 5.0)
    axes: Any = style.ternary(figure, (0.08, 0.12, 0.68, 0.72))
    weights = [surface[name].to_numpy(dtype=float) for name in components]
    predicted = surface["predicted"].to_numpy(dtype=float)
    known = np.concatenate([predicted, points["score"].to_numpy(dtype=float)])
    levels = np.linspace(np.nanmin(known), np.nanmax(known) + 1e-9, 13)
    filled = axes.tricontourf(*weights, predicted, levels=levels, cmap=style.SCORES)
    inside = surface["in_region"].to_numpy(dtype=bool)
    if inside.any():
        axes.scatter(*(w[inside] for w in weights), s=3, color=style.PAPER, alpha=0.8, label="may be the best")
    axes.scatter(
        *(points[name] for name in components), c=points["score"], cmap=style.SCORES, vmin=levels[0], vmax=levels[-1],
        s=70, edgecolor=style.PAPER, lw=1.4, zorder=4, clip_on=False, label=f"measured ({len(points)} points)",
    )  # fmt: skip
    axes.scatter(
        *([best[name]] for name in components), marker="*", s=240, color=style.BEST_RING, edgecolor=style.PAPER,
        zorder=5, clip_on=False, label="predicted best",
    )  # fmt: skip
    figure.colorbar(
        filled, cax=figure.add_axes((0.86, 0.18, 0.022, 0.6)), label=f"{metric}, fitted and measured", format="%.3f"
    )
    style.corners(axes, components)
    legend = figure.legend(loc="upper left", frameon=True, fontsize=9, facecolor=style.LEGEND_ON_SURFACE)
    legend.get_frame().set_linewidth(0)
    return figure
