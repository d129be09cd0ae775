"""Tuning curves of arms: the best score after so many trials of an arm's search, with simultaneous bands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.reports.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(curves: pd.DataFrame, metric: str) -> Figure:
    """A small panel per arm, all arms' medians in grey behind it.

    ``curves``: rows of `harness.stats.tuning_curves`. The frame holds the medians with some room. A band that opens
    to the ends of the metric leaves it, and so does a mean that failures pull down: drawn whole, they would flatten all
    medians to one line.
    """
    parts = {str(arm): part for arm, part in curves.groupby("arm", sort=False)}
    figure, panels = style.panels(list(parts), "trials of the arm's search", f"best validation {metric} so far")
    for axes, (arm, own) in zip(panels, parts.items(), strict=True):
        for other in parts.values():
            grey: dict[str, Any] = {"color": style.OTHER_ARMS, "lw": style.OTHER_ARMS_WIDTH}
            axes.step(other["trials"], other["median"], where="mid", zorder=1, **grey)
        axes.fill_between(
            own["trials"], own["low"], own["high"], step="mid", color=style.ESTIMATE, alpha=0.25, lw=0, zorder=2
        )
        look: dict[str, Any] = {"color": style.ESTIMATE, "lw": style.ARM_WIDTH, "marker": "o" if len(own) < 8 else None}
        axes.step(own["trials"], own["median"], where="mid", ms=3.5, zorder=3, **look)
        axes.plot(own["trials"], own["mean"], color=style.EXPECTED, lw=1.1, ls="--", zorder=4)
        axes.set_title(f"{arm} (n = {int(own['n'].iloc[0])})", fontsize=9, loc="left")
    low, high = float(curves["median"].min()), float(curves["median"].max())
    room = max(0.6 * (high - low), 0.01)
    panels[0].set_ylim(max(low - room, 0.0), min(high + room, 1.0))
    return figure
