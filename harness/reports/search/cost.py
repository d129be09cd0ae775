"""The course of the search, and its cost."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd

from harness.reports.document import Figure, Section, plain_table
from harness.reports.figures import curves, history
from harness.reports.search.findings import Findings
from harness.text import count, duration


def course(findings: Findings) -> tuple[Section, ...]:
    """The scores in their order, and the curves; no section before the first trial."""
    if findings.table.trials.empty:
        return ()
    figures = [Figure("history", "Score of every trial by number and by time.", lambda: history.draw(findings.table))]
    if findings.table.curves["outcome"].isin(["completed", "stopped", "diverged"]).any():
        figures.append(Figure("curves", "Validation score by epoch.", lambda: curves.draw(findings.table)))
    return (Section("Course of the search", tuple(figures)),)


def cost(findings: Findings) -> Section:
    """Time, memory and parameters."""
    spent = findings.cost
    amounts = [
        ("from the first start to the last end, pauses included", duration(spent.wall)),
        (f"trial time ({count(spent.counted, 'trial')})", duration(spent.setup + spent.train + spent.evaluate)),
        ("- setting up", duration(spent.setup)),
        ("- training", duration(spent.train)),
        ("- evaluating", duration(spent.evaluate)),
        ("peak memory of a trial", _span(spent.peak_mib, "{:,.0f}", " MiB")),
        ("trained parameters", _span(spent.trainable, "{:,.0f}")),
        ("trained share of all parameters", _span(spent.share, "{:.3%}").replace("%", " %")),
    ]
    numbers = {
        "wall_seconds": (spent.wall, spent.wall),
        "setup_seconds": (spent.setup, spent.setup),
        "train_seconds": (spent.train, spent.train),
        "evaluate_seconds": (spent.evaluate, spent.evaluate),
        "peak_mib": spent.peak_mib,
        "trainable_parameters": spent.trainable,
        "trainable_share": spent.share,
    }
    frame = pd.DataFrame([(name, *span) for name, span in numbers.items()], columns=["what", "lowest", "highest"])
    apart = ", without the references" * bool(len(findings.table.references))
    caption = f"Sums over the trials that ran{apart}; for memory and parameters the lowest and the highest trial."
    shown = plain_table("cost", caption, pd.DataFrame(amounts, columns=["what", "how much"]))
    return Section("Cost", (replace(shown, frame=frame),))


def _span(span: tuple[float, float], form: str, unit: str = "") -> str:
    low, high = span
    if math.isnan(low):
        return "not recorded"
    first, last = form.format(low), form.format(high)
    return first + unit if first == last else f"{first} to {last}{unit}"
