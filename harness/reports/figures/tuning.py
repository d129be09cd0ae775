"""Tuning curves of arms: the best score after so many trials of an arm's search, with simultaneous bands."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harness.reports.figures import style


def draw(curves: pd.DataFrame, metric: str) -> Figure:
    """A small panel per arm, all arms' medians in grey behind it.

    ``curves``: rows of `harness.stats.tuning_curves`. The frame holds the medians with some room. A band that opens
    to the ends of the metric leaves it, and so does a mean that failures pull down: drawn whole, they would flatten all
    medians to one line.
    """
    parts = {str(arm): part for arm, part in curves.groupby("arm", sort=False)}
    across = min(len(parts), 4)
    down = -(-len(parts) // across)
    figure = style.figure(max(2.5 * across, 3.6), 2.1 * down + 0.5)
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (arm, own) in zip(grid, parts.items(), strict=False):
        for other in parts.values():
            axes.step(other["trials"], other["median"], where="mid", color="#C8C8C8", lw=0.8, zorder=1)
        axes.fill_between(
            own["trials"], own["low"], own["high"], step="mid", color=style.BLUE, alpha=0.25, lw=0, zorder=2
        )
        marker = "o" if len(own) < 8 else None
        axes.step(own["trials"], own["median"], where="mid", color=style.BLUE, lw=1.8, marker=marker, ms=3.5, zorder=3)
        axes.plot(own["trials"], own["mean"], color=style.VERMILLION, lw=1.1, ls="--", zorder=4)
        axes.set_title(f"{arm} (n = {int(own['n'].iloc[0])})", fontsize=9, loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        style.tidy(axes)
    low, high = float(curves["median"].min()), float(curves["median"].max())
    room = max(0.6 * (high - low), 0.01)
    grid[0].set_ylim(max(low - room, 0.0), min(high + room, 1.0))
    for axes in grid[len(parts) :]:
        axes.set_axis_off()
    figure.supxlabel("trials of the arm's search", fontsize=10)
    figure.supylabel(f"best validation {metric} so far", fontsize=10)
    return figure
