"""Where the study lies, how it goes on, and what it was made with."""

from __future__ import annotations

import pandas as pd

from harness.reports import commands
from harness.reports.document import Block, Code, Refusal, Section, Text, plain_table
from harness.reports.search.findings import Findings
from harness.reports.search.overview import described
from harness.tracking.tracker import OpenHint


def provenance(findings: Findings, hint: OpenHint) -> Section:
    """Commands and versions."""
    table = findings.table
    blocks: list[Block] = [
        Text("To continue, run the same command again, with more `--trials` if you like; finished trials are kept:"),
        Code(commands.go_on(table), "sh"),
        Text("This report was made, and can be made again, with:"),
        Code(commands.report(table), "sh"),
        Text(hint.text),
        Code(hint.command, "sh"),
        Text("The record is an Optuna study; after `pip install optuna-dashboard` a browser shows it:"),
        Code(commands.dashboard(table.storage), "sh"),
        Text(
            "Next to this page are every table as CSV (full precision) and LaTeX (booktabs), every figure as PNG and "
            "SVG, and the whole study: `trials.csv` (every trial), `scores.csv` (every metric of the best, with its "
            "interval), `importance.csv` and `importance_pairs.csv` (of every evaluator)"
            + ", `references.csv`" * bool(len(table.references))
            + ", `importance_regression.csv`" * bool(len(findings.regression))
            + "."
        ),
    ]
    known = {name: value for name, value in table.provenance.items() if name != "command"}
    if not known:
        return Section("Where every number comes from", (*blocks, Refusal("versions were not recorded.")))
    rows = [(str(name), described(value)) for name, value in sorted(known.items())]
    versions = plain_table("provenance", "The versions of the study.", pd.DataFrame(rows, columns=["what", "version"]))
    return Section("Where every number comes from", (*blocks, versions))
