"""The report of a study, whichever it is of: written, and printed."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from harness.importance import Importance
from harness.record.ablation_scores import is_ablation
from harness.record.table import StudyTable, seed_of
from harness.reports.ablation import report as ablated
from harness.reports.ablation.report import AblationReport
from harness.reports.search import report as searched
from harness.reports.search.findings import EVALUATORS, summarize, with_importance
from harness.reports.search.report import SearchReport

Report = SearchReport | AblationReport


def write(
    table: StudyTable,
    folder: Path,
    mlflow_uri: str,
    top: int = 5,
    evaluators: tuple[Importance, ...] = EVALUATORS,
) -> Report:
    """Write the report of ``table`` into ``folder/STUDY/report``, which is made. Equal tables give equal files.

    ``folder``: where results lie, as for `harness.record.table.read`; ``mlflow_uri``: the tracking address that the
    report names. Of a search alone: ``top``, how many best trials it shows, and ``evaluators``, which measure
    importance. Bootstraps are seeded by the study's seed. A study without a completed trial gives a report that says
    so, and fewer figures.
    """
    seed = seed_of(table)
    if is_ablation(table):
        return ablated.write(table, folder, mlflow_uri, seed)
    return searched.written(with_importance(summarize(table, top, seed), seed, evaluators), folder, mlflow_uri)


def show(report: Report, console: Console) -> None:
    """Print the result, and where the rest lies."""
    match report:
        case AblationReport():
            ablated.show(report, console)
        case SearchReport():
            searched.show(report, console)
