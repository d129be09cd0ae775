"""The Pareto front: every further objective against the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from harness.record.table import StudyTable, completed_trials, label, objective_columns
from harness.reports.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOGARITHMIC = 20.0
"""An objective whose largest value is so many times its smallest is drawn on a logarithmic axis."""


def draw(table: StudyTable, front: pd.DataFrame) -> Figure:
    """A panel per further objective: completed trials, those on the ``front`` filled and numbered.

    With two objectives the staircase is what the front dominates. With more, a panel shows one side of the front only,
    so no line is drawn: a trial that looks beaten there is not beaten in an objective that the panel does not show.
    Trials that were prompted from the ground truth are marked.
    """
    columns = objective_columns(table)[1:]
    figure = style.figure(1.2 + 4.2 * len(columns), 4.2)
    rest = completed_trials(table.trials)
    rest = rest[~rest["number"].isin(front["number"])]
    first: Axes | None = None
    for index, column in enumerate(columns):
        axes = figure.add_subplot(1, len(columns), index + 1, sharey=first)
        _panel(axes, rest, front, column)
        if len(columns) == 1:
            _staircase(axes, front, column)
        if first is not None:
            axes.tick_params(labelleft=False)
        first = first or axes
    figure.axes[0].set_ylabel(style.objective(table))
    style.legend(figure, figure.axes[0], "outside upper center", ncols=3)
    return figure


def _panel(axes: Axes, rest: pd.DataFrame, front: pd.DataFrame, column: str) -> None:
    for trials, look in ((rest, style.OFF_FRONT), (front, style.ON_FRONT)):
        if len(trials):
            style.points(axes, trials[column].tolist(), trials["value"].tolist(), look, size=42)
    prompted = style.prompted(pd.concat([rest, front]))
    style.oracle(axes, prompted[column].tolist(), prompted["value"].tolist())
    for number, x, y in front[["number", column, "value"]].itertuples(index=False, name=None):
        axes.annotate(str(number), (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8)
    known = pd.concat([rest[column], front[column]])
    if known.min() > 0 and known.max() / known.min() >= _LOGARITHMIC:
        axes.set_xscale("log")
    measured_here = " (s, on this machine)" if column == "objective/train_seconds" else ""
    axes.set_xlabel(label(column) + measured_here)
    axes.margins(0.08)
    style.tidy(axes)


def _staircase(axes: Axes, front: pd.DataFrame, column: str) -> None:
    ordered = front.sort_values(column)
    axes.step(ordered[column], ordered["value"], where="post", color=style.ON_FRONT.colour, lw=1.4, zorder=2)
