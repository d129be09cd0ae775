"""How the search went, and what it cost."""

from __future__ import annotations

import math

import pandas as pd

from harness.reports.document import Figure, Section, Table, row
from harness.reports.search.findings import Findings
from harness.text import count, duration


def course(found: Findings) -> tuple[Section, ...]:
    """The scores in their order, and the curves; no section before the first trial."""
    if found.table.trials.empty:
        return ()
    figures = (
        Figure("history", "Score of every trial by number and by time."),
        Figure("curves", "Validation score by epoch."),
    )
    return (Section("The course of the search", figures),)


def cost(found: Findings) -> Section:
    """Time, memory and parameters."""
    spent = found.cost
    rows = [
        ("from the first start to the last end, pauses included", duration(spent.wall)),
        (f"trial time ({count(spent.counted, 'trial')})", duration(spent.setup + spent.train + spent.evaluate)),
        ("- setting up", duration(spent.setup)),
        ("- training", duration(spent.train)),
        ("- evaluating", duration(spent.evaluate)),
        ("peak memory of a trial", _span(spent.peak_mib, "{:,.0f}", " MiB")),
        ("trained parameters", _span(spent.trainable, "{:,.0f}")),
        ("share of all parameters that is trained", _span(spent.share, "{:.3%}").replace("%", " %")),
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
    apart = ", the references apart" * bool(len(found.table.references))
    caption = f"Sums over the trials that ran{apart}; of memory and parameters the lowest and the highest trial."
    return Section(
        "What it cost", (Table("cost", caption, ("what", "how much"), tuple(row(*line) for line in rows), frame),)
    )


def _span(span: tuple[float, float], form: str, unit: str = "") -> str:
    low, high = span
    if math.isnan(low):
        return "not recorded"
    first, last = form.format(low), form.format(high)
    return first + unit if first == last else f"{first} to {last}{unit}"
