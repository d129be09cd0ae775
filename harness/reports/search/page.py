"""The report of a search as a document, and its figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from harness.record.table import measured
from harness.reports.document import Document, Text
from harness.reports.search.best import best, complete
from harness.reports.search.cost import cost, course
from harness.reports.search.findings import Findings
from harness.reports.search.gain import gain
from harness.reports.search.importance import importance, losses
from harness.reports.search.levels import by_level
from harness.reports.search.limits import left_out, limits
from harness.reports.search.overview import judges, outcomes, plainly, question
from harness.reports.search.pareto import front
from harness.reports.search.pictures import panels
from harness.reports.search.provenance import provenance

if TYPE_CHECKING:  # matplotlib takes a second to load
    from matplotlib.figure import Figure


def document(found: Findings, mlflow: str, folder: Path) -> Document:
    """Everything the report says, in the order of reading.

    ``mlflow``: the tracking address that it names; ``folder``: the study's, with its trials' files.
    """
    search = found.table.question.get("search", found.table.name)
    name = found.table.name
    return Document(
        title=f"What the search `{search}` found" + ("" if name == search else f" (study `{name}`)"),
        lead=tuple(map(Text, plainly(found))),
        sections=(
            *front(found),
            best(found),
            gain(found),
            *losses(found),
            importance(found),
            panels(found, folder),
            *by_level(found),
            limits(found),
            question(found),
            outcomes(found),
            left_out(found),
            *course(found),
            cost(found),
            provenance(found, mlflow),
            *complete(found),
        ),
    )


def figures(found: Findings) -> Iterator[tuple[str, Figure]]:
    """Every figure that the findings allow, by name."""
    from harness.reports.figures import cross, curves, history, importance, pareto, simplex, targets

    table = found.table
    if len(table.trials):
        yield "history", history.draw(table)
    if table.curves["outcome"].isin(["completed", "stopped", "diverged"]).any():
        yield "curves", curves.draw(table)
    if len(simplex.searched(table)) >= 2 and len(measured(table.trials)):
        yield "simplex", simplex.draw(table)
    if len(found.front):
        yield "pareto", pareto.draw(table, found.front)
    for probe, own in found.cross.groupby("probe"):
        if own["trials"].sum() > 0:
            yield "cross_probe" if probe else "cross", cross.draw(table, own)
    for name, tables in (("importance_probe", found.probed), ("importance", found.importance)):
        if any(rows["importance"].notna().any() for _, rows in tables):
            yield name, importance.draw([importance.Panel(how.title, how.question, rows) for how, rows in tables])
    scores = found.scores[found.scores["metric"] == found.metric]
    if len(scores):
        yield "targets", targets.draw(scores, found.metric, judges(table.question))
