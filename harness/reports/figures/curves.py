"""Learning curves: validation score by epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.record.table import StudyTable, ranking
from harness.reports.figures import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(table: StudyTable) -> Figure:
    """One line per trial: the best in bold, other completed ones thin, stopped and diverged ones up to their end.

    The end of a trial that was prompted from the ground truth is marked.
    """
    figure = style.figure(7.2, 4.2)
    axes = figure.add_subplot()
    done, prompted = ranking(table), style.prompted(table.trials)
    best = int(done["number"].iloc[0]) if len(done) else None
    counted = {"completed": set(done["number"])} | {
        kind: set(table.trials.loc[table.trials["outcome"] == kind, "number"]) for kind in ("stopped", "diverged")
    }
    # A trial that is still running has a curve, but no end to mark: it is not drawn.
    for kind, numbers in counted.items():
        look = style.OUTCOMES[kind]
        curves = [curve for number, curve in table.curves.groupby("number") if number in numbers and number != best]
        for curve in curves:
            axes.plot(curve["epoch"], curve["score"], color=look.colour, lw=style.TRIAL_WIDTH, alpha=0.55, zorder=2)
        ends = [curve.iloc[-1] for curve in curves]
        if kind == "completed":
            look = look._replace(words="other completed")
        if ends:
            style.points(axes, [end["epoch"] for end in ends], [end["score"] for end in ends], look, size=22)
    if best is not None:
        curve = table.curves[table.curves["number"] == best]
        text = f"best (trial {best}){style.mark(best, prompted)}"
        axes.plot(
            curve["epoch"], curve["score"], color=style.BEST, lw=style.BEST_WIDTH, label=text, zorder=4,
            marker="o", markevery=[-1],  # one epoch has no line
        )  # fmt: skip
    shown = {number for numbers in counted.values() for number in numbers} & set(prompted["number"])
    marked = table.curves[table.curves["number"].isin(shown)].groupby("number").tail(1)
    style.oracle(axes, marked["epoch"].tolist(), marked["score"].tolist())
    axes.set_xlabel("epoch")
    axes.set_ylabel(style.objective(table))
    style.whole_numbers(axes.xaxis)
    style.tidy(axes)
    if axes.lines:
        figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure
