"""Where the study lies, how it goes on, and what it was made with."""

from __future__ import annotations

import pandas as pd

from harness.reports import commands
from harness.reports.document import Block, Code, Refusal, Section, Table, Text, row
from harness.reports.search.findings import Findings
from harness.reports.search.overview import described


def provenance(found: Findings, address: str) -> Section:
    """Commands and versions. ``address``: MLflow's."""
    table = found.table
    blocks: list[Block] = [
        Text("Go on: run the same command again, with more `--trials` if you like. What is finished is not run again:"),
        Code(commands.go_on(table), "sh"),
        Text("This report was made, and can be made again, with:"),
        Code(commands.report(table), "sh"),
        Text("In MLflow the study is a parent run with this report in it, and its trials are the child runs:"),
        Code(commands.mlflow(address), "sh"),
        Text("The record itself is an Optuna study; `pip install optuna-dashboard` lets a browser look at it:"),
        Code(commands.dashboard(table.storage), "sh"),
        Text(
            "Beside this page lie every table as CSV (full precision) and LaTeX (booktabs), every figure as PNG and "
            "SVG, and the whole study: `trials.csv` (every trial), `scores.csv` (every metric of the best, with its "
            "interval), `importance.csv` and `importance_pairs.csv` (of every evaluator)"
            + ", `references.csv`" * bool(len(table.references))
            + ", `importance_regression.csv`" * bool(len(found.regression))
            + "."
        ),
    ]
    known = {name: value for name, value in table.provenance.items() if name != "command"}
    if not known:
        return Section("Where every number comes from", (*blocks, Refusal("versions were not recorded.")))
    rows = [(str(name), described(value)) for name, value in sorted(known.items())]
    frame = pd.DataFrame(rows, columns=["what", "version"])
    made = Table("provenance", "What it was made with.", ("what", "version"), tuple(row(*line) for line in rows), frame)
    return Section("Where every number comes from", (*blocks, made))
