"""The course of the search: score of every trial against its number and against the time spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from harness.record.table import StudyTable
from harness.reports.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(table: StudyTable) -> Figure:
    """Two panels: trials in order, and the same against cumulative trial time, in minutes from two of them on.

    The step line is the best completed score so far; without those prompted from the ground truth, which are marked,
    where both kinds are there. A stopped trial stands, hollow, at its last validation score; trials without a score
    stand in the strip below. Reused trials cost nothing and are not drawn twice.
    """
    from matplotlib.ticker import MaxNLocator

    trials = table.trials[table.trials["outcome"].isin(list(style.OUTCOMES)) & table.trials["reused_from"].isna()]
    seconds = trials["seconds"].fillna(0.0).cumsum()
    spent = (seconds / 60.0, "minutes") if seconds.max() >= 120.0 else (seconds, "seconds")
    height = trials["value"].where(trials["outcome"] == "completed", trials["last_score"])
    # A diverged trial's last score is no level that it held: it belongs to the strip.
    height = height.where(trials["outcome"].isin(["completed", "stopped"]))
    figure = style.figure(9.2, 4.2)
    floor = _floor(height)
    x_axes = ((trials["number"].astype(float), "trial number"), (spent[0], f"cumulative trial time ({spent[1]})"))
    first: Axes | None = None
    for index, (x, name) in enumerate(x_axes):
        axes = figure.add_subplot(1, 2, index + 1, sharey=first)
        first = first or axes
        _panel(axes, table, trials, x, height, floor)
        axes.set_xlabel(name)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=index == 0))
        if index > 0:
            axes.tick_params(labelleft=False)
    if height.isna().any():
        last = figure.axes[-1]
        last.annotate("no score", (1.01, floor), xycoords=("axes fraction", "data"), va="center", fontsize=9)
    figure.axes[0].set_ylabel(style.objective(table))
    style.legend(figure, figure.axes[0], "outside upper center", ncols=6)
    return figure


def _floor(height: pd.Series) -> float:
    low, high = (float(height.min()), float(height.max())) if height.notna().any() else (0.0, 1.0)
    return low - 0.08 * max(high - low, 0.01)


def _panel(axes: Axes, table: StudyTable, trials: pd.DataFrame, x: pd.Series, height: pd.Series, floor: float) -> None:
    for kind, look in style.OUTCOMES.items():
        chosen = trials["outcome"] == kind
        if chosen.any():
            y = height[chosen].fillna(floor)
            style.points(axes, x[chosen].tolist(), y.tolist(), look)
    done, prompted = trials["outcome"] == "completed", trials.index.isin(style.prompted(trials).index)
    scored = height.notna() & prompted
    style.oracle(axes, x[scored].tolist(), height[scored].tolist())
    mixed = 0 < (done & prompted).sum() < done.sum()
    if mixed:
        done &= ~prompted
    best = height[done].cummax() if table.direction == "maximize" else height[done].cummin()
    if len(best):
        text = "best so far, unprompted" if mixed else "best so far"
        axes.step(x[done], best, where="post", color=style.BEST, lw=1.6, label=text, zorder=2)
    if height.isna().any():
        axes.axhspan(floor - 0.0001, floor + 0.0001, color=style.NO_SCORE, lw=5, alpha=0.5, zorder=1)
    style.tidy(axes)
