"""Learning curves, and the cost and outcomes of each arm's trials."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from harness.record.metric_names import metric_name
from harness.reports.ablation.design import untrained
from harness.reports.ablation.findings import Findings
from harness.reports.document import Columns, Figure, Record, Refusal, Section, table
from harness.reports.figures import arm_curves


def curves(findings: Findings) -> Section:
    """Learning curves with bands."""
    title = "Learning curves"
    trained = findings.curves[findings.curves["arm"] != untrained(findings.ablation)]
    if trained.empty:
        return Section(title, (Refusal("no completed trial has a curve."),))
    caption = (
        f"Mean validation {metric_name('dice')} on the sources by epoch. Band: 95 % t interval of that mean over "
        "replicates, taken as independent (n is their number; no band for fewer than two); it is about other images "
        "than the scores of the tables and leaves out the spread over patients. Grey: the other arms. An untrained "
        "arm has no curve. Validation scores chose nothing here and enter no verdict."
    )
    return Section(title, (Figure("curves", caption, lambda: arm_curves.draw(trained, metric_name("dice"))),))


def costs(findings: Findings) -> Section:
    """The cost of each arm, and the outcomes of its trials."""
    empty = untrained(findings.ablation)

    def spent(name: str) -> Callable[[Record], str]:
        return lambda one: _amount(one.get(name))

    def trained(name: str) -> Callable[[Record], str]:
        return lambda one: "none" if one["arm"] == empty else _amount(one.get(name))

    columns: Columns[Record] = {
        "arm": lambda one: str(one["arm"]),
        "trials": lambda one: str(one["trials"]),
        "completed": lambda one: str(one["completed"]),
        "diverged": lambda one: str(one["diverged"]),
        "out of memory": lambda one: str(one["out_of_memory"]),
        "crashed": lambda one: str(one["crashed"]),
        "reused": lambda one: str(one["reused"]),
        "training, s per trial": trained("train_seconds"),
        "evaluation, s per trial": spent("evaluate_seconds"),
        "peak MiB": spent("peak_mib"),
        "trained parameters": trained("trainable_parameters"),
    }
    caption = (
        "Mean seconds over the trials of an arm that ran, as measured on their machine; the highest peak memory of a "
        "trial; the number of trained parameters. A reused trial cost nothing here."
    )
    costs = table("costs", caption, findings.costs.to_dict("records"), columns, findings.costs)
    return Section("Cost of each arm", (costs,))


def _amount(value: object) -> str:
    if not isinstance(value, float | int) or pd.isna(value):
        return "not recorded"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
