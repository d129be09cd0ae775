"""Learning curves of arms: mean validation score by epoch, with a band over replicates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from harness.reports.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(curves: pd.DataFrame, metric: str) -> Figure:
    """A small panel per arm, all arms' means in grey behind it. ``curves``: arm, epoch, mean, low, high, n."""
    parts = {str(arm): part for arm, part in curves.groupby("arm", sort=False)}
    figure, panels = style.panels(list(parts), "epoch", f"validation {metric}")
    for axes, (arm, own) in zip(panels, parts.items(), strict=True):
        for other in parts.values():
            axes.plot(other["epoch"], other["mean"], color=style.OTHER_ARMS, lw=style.OTHER_ARMS_WIDTH, zorder=1)
        axes.fill_between(own["epoch"], own["low"], own["high"], color=style.ESTIMATE, alpha=0.25, lw=0, zorder=2)
        axes.plot(own["epoch"], own["mean"], color=style.ESTIMATE, lw=style.ARM_WIDTH, zorder=3)
        axes.set_title(f"{arm} (n = {int(own['n'].max())})", fontsize=9, loc="left")
    return figure
