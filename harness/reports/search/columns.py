"""Columns that several tables of a search share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from harness.record.table import label
from harness.reports.document import Columns, Record
from harness.reports.search.format import setting, with_gaps


def setting_columns(names: Iterable[str]) -> Columns[Record]:
    """The settings ``names`` of a trial."""

    def of(name: str) -> Callable[[Record], str]:
        return lambda trial: setting(trial[name])

    return {label(name): of(name) for name in names}


def score_columns(
    scores: pd.DataFrame,
    by: str,
    headers: Mapping[str, str],
    written: Callable[[Record], str] = with_gaps,
    missing: str = "not tested",
) -> Columns[Record]:
    """The test scores on each data set of ``headers``: those of ``scores`` that have an item's value of ``by``."""
    texts = {(row[by], row["dataset"]): written(row) for row in scores.to_dict("records")}

    def on(dataset: str) -> Callable[[Record], str]:
        return lambda item: texts.get((item[by], dataset), missing)

    return {header: on(dataset) for dataset, header in headers.items()}
