"""How the trials went: learning curves, cost, and those that did not finish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.record.table import metric_name
from harness.reports.ablation.findings import Answers, untrained
from harness.reports.document import Cell, Figure, Refusal, Section, Table, row


def curves(found: Answers) -> Section:
    """Learning curves with bands."""
    title = "Learning curves"
    if found.curves.empty:
        return Section(title, (Refusal("no completed trial has a curve."),))
    caption = (
        f"Mean validation {metric_name('dice')} on the sources by epoch; band: 95 % t interval of that mean over "
        "replicates, taken for independent (n is their number; no band below two): it is of other images than the "
        "tables' scores, and patients are not in it. Grey: the other arms. An arm that is not trained has no "
        "curve. Validation chose nothing here and judges nothing."
    )
    return Section(title, (Figure("curves", caption),))


def costs(found: Answers) -> Section:
    """What an arm costs, and how its trials ended."""
    header = ("arm", "trials", "completed", "diverged", "out of memory", "crashed", "reused", "training s a trial",
              "evaluation s a trial", "peak MiB", "parameters trained")  # fmt: skip
    empty = untrained(found.ablation)
    rows = tuple(_cost(one, trained=one["arm"] != empty) for one in found.costs.to_dict("records"))
    caption = (
        "Means of seconds over the trials of an arm that ran, as measured on the machine that ran them; the highest "
        "peak memory of a trial; the parameters that it trains. A reused trial cost nothing here."
    )
    return Section("Cost of each arm", (Table("costs", caption, header, rows, found.costs),))


def _cost(one: Mapping[Any, Any], *, trained: bool) -> tuple[Cell, ...]:
    counted = [str(one[name]) for name in ("trials", "completed", "diverged", "out_of_memory", "crashed", "reused")]
    training, evaluation, peak, parameters = (
        _amount(one.get(name)) for name in ("train_seconds", "evaluate_seconds", "peak_mib", "trainable_parameters")
    )
    spent = [training if trained else "none", evaluation, peak, parameters if trained else "none"]
    return row(str(one["arm"]), *counted, *spent)


def _amount(value: object) -> str:
    if not isinstance(value, float | int) or pd.isna(value):
        return "not recorded"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
