"""Where every number comes from."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from harness.reports import commands
from harness.reports.ablation.findings import Answers
from harness.reports.document import Block, Code, Section, Table, Text, row
from harness.stats.sequential import ALPHA

_METHODS = (
    ("effects, verdicts, means", "two-way crossed analysis of replicates and patients (Hillis, Berbaum, Metz 2008)"),
    ("Holm p, equivalence p", "Holm 1979 over the family; two one-sided tests (Schuirmann 1987)"),
    ("bootstrap", "pigeonhole bootstrap over replicates and patients (Owen 2007)"),
    (
        "sign flips",
        "over replicates, by fold or seed where they share one, exact up to 14, else drawn (Phipson, Smyth 2010)",
    ),
    ("mixed model", "restricted maximum likelihood, profiled as in lme4"),
    ("worth of a component", "contrasts over all trained coalitions (Shapley 1953)"),
    ("overstated", "type M error at the effect and the variances seen (Gelman, Carlin 2014)"),
    ("ranks", "those that no paired difference of two arms excludes, Holm over all pairs (Mogstad et al. 2024)"),
    ("tuning curves", "distribution-free simultaneous bands, opda (Lourie, Cho, He 2023)"),
    ("interquartile mean, P(improvement)", "Agarwal et al. 2021"),
)


def provenance(found: Answers, mlflow: str) -> Section:
    """Commands, versions, digests of the data, methods and seeds."""
    table = found.table
    known = {str(name): str(value) for name, value in table.provenance.items() if name != "command"}
    digests = {f"data set {name}": str(digest) for name, digest in (table.question.get("materials") or {}).items()}
    asked = {
        "design": json.dumps(dict(found.ablation.design), sort_keys=True),
        "primary metric": found.ablation.primary,
        "smallest effect of interest": f"{found.ablation.smallest:g}",
        "level of all verdicts together": f"{ALPHA:g}",
        "replicates (seed/fold)": ", ".join(f"{pair.seed}/{pair.fold}" for pair in found.cells.replicates[:60]),
        "settings": f"each arm tuned by {found.ablation.tuned} trials" if found.ablation.tuned else "fixed",
        "record": table.storage,
        "study": table.name,
    }
    for name, why in (table.question.get("left_out") or {}).items():
        asked[f"files of {name} left out, as asked"] = f"{len(why)}: {'; '.join(why)}"
    if copies := table.question.get("copies"):
        asked["photographs that may be copies"] = "; ".join(copies)
    rows = {**asked, **known, **digests}
    frame = pd.DataFrame({"what": list(rows), "value": list(rows.values())})
    blocks: list[Block] = []
    if command := table.provenance.get("command"):
        blocks += [Text("The study was begun, and goes on, with:"), Code(str(command))]
    blocks += [
        Text("This report was made, and can be made again, with:"),
        Code(commands.report(table)),
    ]
    if not simulated(table.provenance):  # nothing of it was ever sent there
        blocks += [
            Text("In MLflow the study is a parent run with this report in it, and its trials are the child runs:"),
            Code(commands.mlflow(mlflow)),
        ]
    blocks += [
        Table("provenance", "What was asked, with what, on which data.", ("what", "value"),
              tuple(row(name, value) for name, value in rows.items()), frame),
        Table("methods", "How each number was made.", ("number", "method"),
              tuple(row(*line) for line in _METHODS), pd.DataFrame(_METHODS, columns=["number", "method"])),
    ]  # fmt: skip
    blocks.append(Text(_beside(found)))
    return Section("Where every number comes from", tuple(blocks))


def _beside(found: Answers) -> str:
    return (
        "Beside this page lie `report.md`, every table as CSV (full precision) and LaTeX (booktabs), every figure as "
        "PNG and SVG, and `trials.csv` with all trials of the study."
    )


def base(found: Answers) -> Section:
    """The settings that all arms share."""
    text = json.dumps(dict(found.ablation.base), indent=1, sort_keys=True)
    return Section("Settings of the base, complete", (Code(text),))


def simulated(provenance: dict[str, Any]) -> bool:
    """Whether the study is made up."""
    return bool(provenance.get("simulated"))
