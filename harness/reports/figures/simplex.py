"""Loss weights against the validation score: where on the simplex were the good trials?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from harness.record.table import StudyTable, completed_trials, label, ranking
from harness.reports.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def searched(table: StudyTable) -> list[str]:
    """The loss-weight columns that the search varied, by name; empty if the loss was given."""
    return [column for column in table.distributions if column.startswith("weight/")]


def draw(table: StudyTable) -> Figure:
    """A ternary plot for three components, else one panel per component with its weight on the x axis.

    Completed trials are filled and coloured by their score; stopped ones are hollow (their score belongs to an earlier
    epoch), diverged ones crosses. Scores prompted from the ground truth are marked. Raises ``ValueError`` for fewer
    than two components: there is no simplex then.
    """
    columns = searched(table)
    if len(columns) < 2:
        raise ValueError(f"A simplex needs two searched loss weights or more, this study has {len(columns)}.")
    return _ternary(table, columns) if len(columns) == 3 else _panels(table, columns)


def _ternary(table: StudyTable, columns: list[str]) -> Figure:
    figure = style.figure(7.2, 5.2)
    axes: Any = style.ternary(figure, (0.1, 0.14, 0.68, 0.72))
    for kind in ("stopped", "diverged"):
        rows, look = _rows(table, kind), style.OUTCOMES[kind]
        face = {"color": look.colour} if look.marker == "x" else {"facecolor": look.face, "edgecolor": look.colour}
        text = f"{look.words} ({len(rows)})"
        spots = [rows[name] for name in columns]
        axes.scatter(*spots, s=32, marker=look.marker, label=text, zorder=2.5, clip_on=False, **face)
    done = ranking(table).iloc[::-1]  # the best last, so that it lies on top
    dots = axes.scatter(
        *(done[name] for name in columns), c=done["value"], cmap=style.SCORES, s=62, edgecolor=style.INK, lw=0.5,
        zorder=3, clip_on=False, label=f"completed ({len(done)})",
    )  # fmt: skip
    prompted = style.prompted(done)
    style.oracle(axes, *(prompted[name].tolist() for name in columns))
    if len(done):
        best = done.tail(1)
        number = int(best["number"].iloc[0])
        axes.scatter(
            *(best[name] for name in columns), s=230, facecolor="none", edgecolor=style.BEST_RING, lw=2, zorder=4,
            clip_on=False, label=f"best (trial {number}){style.mark(number, prompted)}",
        )  # fmt: skip
        figure.colorbar(dots, cax=figure.add_axes((0.87, 0.18, 0.022, 0.62)), label=style.objective(table))
    style.corners(axes, map(label, columns))
    axes.grid(True, color=style.TERNARY_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    figure.legend(loc="upper left", frameon=False, fontsize=9)
    return figure


def _panels(table: StudyTable, columns: list[str]) -> Figure:
    shown = columns[:1] if len(columns) == 2 else columns
    across = min(len(shown), 3)
    down = -(-len(shown) // across)
    figure = style.figure(max(3.4 * across, 5.6), 2.9 * down + 0.6)
    first: Axes | None = None
    for index, column in enumerate(shown):
        axes = figure.add_subplot(down, across, index + 1, sharey=first)
        first = first or axes
        heights = {"stopped": "last_score", "completed": "value"}
        for kind, height in heights.items():
            rows = _rows(table, kind)
            style.points(axes, rows[column].tolist(), rows[height].tolist(), style.OUTCOMES[kind])
        prompted = {height: style.prompted(_rows(table, kind)) for kind, height in heights.items()}
        x = [spot for rows in prompted.values() for spot in rows[column]]
        style.oracle(axes, x, [spot for height, rows in prompted.items() for spot in rows[height]])
        other = f" ({label(columns[1])} is 1 minus this)" if len(columns) == 2 else ""
        axes.set_xlabel(label(column) + other)
        axes.set_xlim(-0.03, 1.03)
        style.tidy(axes)
        if index % across == 0:
            axes.set_ylabel(style.objective(table))
    style.legend(figure, figure.axes[0], "outside upper center", ncols=2)
    return figure


def _rows(table: StudyTable, kind: str) -> pd.DataFrame:
    return completed_trials(table.trials) if kind == "completed" else table.trials[table.trials["outcome"] == kind]
