"""Writes and prints the report of a study, and the summary of several studies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pandas as pd
from rich.console import Console

from harness.importance import Importance
from harness.record.ablation_scores import is_ablation
from harness.record.table import StudyTable, seed_of
from harness.reports.ablation import report as ablated
from harness.reports.rendering.console import markdown
from harness.reports.search import across_models
from harness.reports.search import report as searched
from harness.reports.search.findings import EVALUATORS
from harness.tracking.tracker import Conclusion, OpenHint, Tracking

SILENT = Console(quiet=True)


class Report(Protocol):
    """The written report of a study, and what a tracker shows of it (`Conclusion`)."""

    @property
    def folder(self) -> Path: ...
    @property
    def files(self) -> tuple[Path, ...]: ...
    @property
    def summary(self) -> dict[str, float]: ...
    @property
    def note(self) -> str: ...
    @property
    def front(self) -> tuple[int, ...]: ...
    @property
    def tags(self) -> dict[str, str]: ...


def write(
    table: StudyTable,
    folder: Path,
    hint: OpenHint,
    top: int = 5,
    evaluators: tuple[Importance, ...] = EVALUATORS,
    console: Console = SILENT,
) -> Report:
    """Write the report of ``table`` into ``folder/STUDY/report``, which is made. Equal tables give equal files.

    ``folder``: that of all results, or another, since what trials left is read where ``table`` says; ``hint``: how the
    report tells a person to open the tracker; ``console``: prints each part as soon as it is known. Of a search alone:
    ``top``, how many best trials it shows, and ``evaluators``, which measure importance. Bootstraps are seeded by the
    study's seed. Raises ``DiskError`` where a file cannot be written.
    A study without a completed trial gives a report that says so, and fewer figures.
    """
    seed = seed_of(table)
    if is_ablation(table):
        return ablated.write(table, folder, hint, seed, console)
    return searched.write(table, folder, hint, seed, top, evaluators, console)


def conclude(table: StudyTable, console: Console, tracking: Tracking) -> Conclusion:
    """Write and print the report of a finished study; returns what a tracker shows of it."""
    report = write(table, table.out, tracking.hint(table.name), console=console)
    return Conclusion(report.summary, report.note, report.folder, report.front, report.tags)


def summarize_studies(frame: pd.DataFrame, lines: Sequence[str], folder: Path, console: Console) -> None:
    """Write the summary of several studies into ``folder``; print its ``lines``, and on ``console`` where it lies."""
    text, _ = across_models.write(frame, lines, folder)
    Console().print(markdown(text.read_text()))
    console.print(f"Summary: {text}", highlight=False, soft_wrap=True, markup=False)
