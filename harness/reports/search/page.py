"""The report of a search as a document."""

from __future__ import annotations

from pathlib import Path

from harness.reports.document import Document, Text
from harness.reports.search.best import best, complete
from harness.reports.search.cost import cost, course
from harness.reports.search.findings import Findings
from harness.reports.search.gain import gain
from harness.reports.search.importance import importance, losses
from harness.reports.search.levels import by_level
from harness.reports.search.limits import left_out, limits
from harness.reports.search.overview import outcomes, plainly, question
from harness.reports.search.pareto import front
from harness.reports.search.pictures import panels
from harness.reports.search.provenance import provenance
from harness.tracking.tracker import OpenHint


def document(findings: Findings, hint: OpenHint, folder: Path) -> Document:
    """Everything the report says, in the order of reading.

    ``hint``: how it tells a person to open the tracker; ``folder``: the study's, with its trials' files.
    """
    search = findings.table.question.get("search", findings.table.name)
    name = findings.table.name
    return Document(
        title=f"What the search `{search}` found" + ("" if name == search else f" (study `{name}`)"),
        lead=tuple(map(Text, plainly(findings))),
        sections=(
            *front(findings),
            best(findings),
            gain(findings),
            *losses(findings),
            importance(findings),
            panels(findings, folder),
            *by_level(findings),
            limits(findings),
            question(findings),
            outcomes(findings),
            left_out(findings),
            *course(findings),
            cost(findings),
            provenance(findings, hint),
            *complete(findings),
        ),
    )
