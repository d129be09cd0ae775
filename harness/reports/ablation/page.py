"""The report of an ablation as a document."""

from __future__ import annotations

from pathlib import Path

from harness.reports.ablation import (
    ablation_table,
    components,
    cost,
    cross_checks,
    pictures,
    provenance,
    transfer,
    tuning,
    verdicts,
)
from harness.reports.ablation.findings import Findings
from harness.reports.document import Block, Document, Text
from harness.tracking.tracker import OpenHint


def document(findings: Findings, hint: OpenHint, folder: Path) -> Document:
    """Everything the report says, in the order of reading.

    ``hint``: how it tells a person to open the tracker; ``folder``: the study's, with its trials' files.
    """
    lead: list[Block] = [Text(verdicts.plainly(findings))]
    if text := ablation_table.best(findings):
        lead.append(Text(text))
    if provenance.simulated(findings.table.provenance):
        lead.insert(0, Text("**Simulated scores**: nothing was trained, and nothing here is about SAM 2."))
    name = findings.table.question.get("search", findings.table.name)
    return Document(
        title=f"What mattered: the ablation `{name}`{', each arm tuned' if findings.ablation.tuned else ''}",
        lead=tuple(lead),
        sections=(
            verdicts.verdicts(findings),
            verdicts.compared(findings),
            ablation_table.scores(findings),
            *tuning.sections(findings),
            components.forest(findings),
            components.shapley(findings),
            *components.mixture(findings),
            transfer.transfer(findings),
            cost.curves(findings),
            *transfer.by_rank(findings),
            cross_checks.variances(findings),
            cross_checks.checks(findings),
            cross_checks.aggregates(findings),
            pictures.panels(findings, folder),
            cost.costs(findings),
            cross_checks.failures(findings),
            provenance.provenance(findings, hint),
            provenance.base(findings),
        ),
    )
