"""Learning curves of arms: mean validation score by epoch, with a band over replicates."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.reports.figures import style


def draw(curves: pd.DataFrame, metric: str) -> Figure:
    """A small panel per arm, all arms' means in grey behind it. ``curves``: arm, epoch, mean, low, high, n."""
    arms = list(dict.fromkeys(curves["arm"]))
    across = min(len(arms), 4)
    down = -(-len(arms) // across)
    figure = style.figure(max(2.5 * across, 3.6), 2.1 * down + 0.5)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    parts = {str(arm): part for arm, part in curves.groupby("arm", sort=False)}
    for axes, arm in zip(grid, arms, strict=False):
        for other in parts.values():
            axes.plot(other["epoch"], other["mean"], color="#C8C8C8", lw=0.8, zorder=1)
        own = parts[arm]
        axes.fill_between(own["epoch"], own["low"], own["high"], color=style.BLUE, alpha=0.25, lw=0, zorder=2)
        axes.plot(own["epoch"], own["mean"], color=style.BLUE, lw=1.8, zorder=3)
        axes.set_title(f"{arm} (n = {int(own['n'].max())})", fontsize=9, loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        style.tidy(axes)
    for axes in grid[len(arms) :]:
        axes.set_axis_off()
    figure.supxlabel("epoch", fontsize=10)
    figure.supylabel(f"validation {metric}", fontsize=10)
    return figure
