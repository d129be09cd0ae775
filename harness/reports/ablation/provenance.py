"""Where every number comes from."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from harness.reports import commands
from harness.reports.ablation.findings import Findings
from harness.reports.document import Block, Code, Section, Text, plain_table
from harness.stats.multiplicity import CORRECTION, REFERENCE
from harness.stats.sequential import ALPHA
from harness.tracking.tracker import OpenHint
from sam2lora.credentials import masked

_METHODS = (
    ("effects, verdicts, means", "two-way crossed analysis of replicates and patients (Hillis, Berbaum, Metz 2008)"),
    (f"{CORRECTION} p, equivalence p", f"{REFERENCE} over the family; two one-sided tests (Schuirmann 1987)"),
    ("bootstrap", "pigeonhole bootstrap over replicates and patients (Owen 2007)"),
    (
        "sign flips",
        "over replicates, by fold or seed where they share one, exact up to 14, else drawn (Phipson, Smyth 2010)",
    ),
    ("mixed model", "restricted maximum likelihood, profiled as in lme4"),
    ("worth of a component", "contrasts over all trained coalitions (Shapley 1953)"),
    ("overstated", "type M error at the effect and the variances seen (Gelman, Carlin 2014)"),
    (
        "ranks",
        f"those that no paired difference of two arms excludes, {CORRECTION} over all pairs (Mogstad et al. 2024)",
    ),
    ("tuning curves", "distribution-free simultaneous bands, opda (Lourie, Cho, He 2023)"),
    ("interquartile mean, P(improvement)", "Agarwal et al. 2021"),
)


def provenance(findings: Findings, hint: OpenHint) -> Section:
    """Commands, versions, digests of the data, methods and seeds."""
    table = findings.table
    known = {str(name): str(value) for name, value in table.provenance.items() if name != "command"}
    digests = {f"data set {name}": str(digest) for name, digest in (table.question.get("materials") or {}).items()}
    asked = {
        "design": json.dumps(dict(findings.ablation.design), sort_keys=True),
        "primary metric": findings.ablation.primary,
        "smallest effect of interest": f"{findings.ablation.smallest:g}",
        "level of all verdicts together": f"{ALPHA:g}",
        "replicates (seed/fold)": ", ".join(f"{pair.seed}/{pair.fold}" for pair in findings.cells.replicates[:60]),
        "settings": f"each arm tuned by {findings.ablation.tuned} trials" if findings.ablation.tuned else "fixed",
        "record": masked(table.storage),
        "study": table.name,
    }
    for name, why in (table.question.get("left_out") or {}).items():
        asked[f"files of {name} left out on request"] = f"{len(why)}: {'; '.join(why)}"
    if copies := table.question.get("copies"):
        asked["photographs that may be copies"] = "; ".join(copies)
    rows = {**asked, **known, **digests}
    frame = pd.DataFrame({"what": list(rows), "value": list(rows.values())})
    blocks: list[Block] = []
    if command := table.provenance.get("command"):
        blocks += [Text("The study was started, and is continued, with:"), Code(str(command))]
    blocks += [Text("This report was made, and can be made again, with:"), Code(commands.report(table))]
    if not simulated(table.provenance):  # nothing of it was ever sent there
        blocks += [Text(hint.text), Code(hint.command)]
    blocks += [
        plain_table("provenance", "The question, the versions and the data.", frame),
        plain_table("methods", "How each number was computed.", pd.DataFrame(_METHODS, columns=["number", "method"])),
        Text(
            "Next to this page are `report.md`, every table as CSV (full precision) and LaTeX (booktabs), every figure "
            "as PNG and SVG, and `trials.csv` with all trials of the study."
        ),
    ]
    return Section("Where every number comes from", tuple(blocks))


def base(findings: Findings) -> Section:
    """The settings that all arms share."""
    text = json.dumps(dict(findings.ablation.base), indent=1, sort_keys=True)
    return Section("Settings of the base, complete", (Code(text),))


def simulated(provenance: dict[str, Any]) -> bool:
    """Whether the study is made up."""
    return bool(provenance.get("simulated"))
