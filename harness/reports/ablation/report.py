"""Writes the report of an ablation: one HTML page, Markdown, tables as LaTeX and CSV, figures as PNG and SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from harness.record.table import StudyTable
from harness.reports.ablation import findings as numbers
from harness.reports.ablation import format, pictures, verdicts
from harness.reports.ablation.findings import Answers, Verdicts
from harness.reports.ablation.page import document, figures
from harness.reports.document import marks
from harness.reports.rendering import files, markdown
from harness.reports.rendering.console import show as show_table
from harness.reports.rendering.console import table as columns


@dataclass(frozen=True)
class AblationReport:
    """What was written: the folder, its files (``report.html`` first), and the answers behind them."""

    folder: Path
    files: tuple[Path, ...]
    answers: Answers
    mlflow_uri: str
    front: tuple[int, ...] = ()

    @property
    def note(self) -> str:
        """The verdicts in plain words."""
        return verdicts.plainly(self.answers.verdicts)

    @property
    def summary(self) -> dict[str, float]:
        """Effects, p-values and means by name, those that have an interval: a tracker shows each number by itself.

        Only finite ones, since a tracker would draw the others as points.
        """
        return {name: value for name, value in _summary(self.answers).items() if math.isfinite(value)}

    @property
    def tags(self) -> dict[str, str]:
        """The verdict of every comparison in a few words, by name: a tracker shows them where studies are compared."""
        return {f"verdict/{one.effect.contrast}": format.told(one) for one in self.answers.judged}


def write(table: StudyTable, folder: Path, mlflow_uri: str, seed: int) -> AblationReport:
    """Answer and write into ``folder/STUDY/report``, which is made. Equal tables give equal files."""
    return written(numbers.answer(numbers.verdicts(table, seed), seed, folder), folder, mlflow_uri)


def written(found: Answers, folder: Path, mlflow_uri: str) -> AblationReport:
    """Write what was ``found``."""
    study = folder / found.table.name
    made = files.write(
        document(found, mlflow_uri, study),
        figures(found),
        pictures.pictures(found, study),
        {"trials": found.table.trials},
        study / "report",
    )
    return AblationReport(study / "report", made, found, mlflow_uri)


def _summary(found: Answers) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for one in found.judged:
        name, effect = f"effect/{one.effect.contrast}", one.effect
        if not effect.why:
            numbers |= {name: effect.estimate, f"{name}/low": effect.low, f"{name}/high": effect.high}
        numbers |= {f"{name}/holm_p": one.holm_p, f"{name}/beyond_p": one.beyond_p}
        numbers |= {f"{name}/equivalence_p": one.equivalence_p, f"{name}/everywhere_p": one.everywhere_p}
        numbers[f"{name}/replicates"] = float(effect.replicates)
    for mean in found.means:
        name = f"mean/{mean.arm}/{mean.target or 'all'}"
        if not mean.why:
            numbers |= {name: mean.mean, f"{name}/low": mean.low, f"{name}/high": mean.high}
        numbers |= {f"{name}/replicates": float(mean.replicates), f"{name}/images": float(mean.images)}
    return numbers


def show(report: AblationReport, console: Console) -> None:
    """Print the verdicts and where the report lies."""
    show_verdicts(report.answers.verdicts, console)
    show_where(report, console)


def show_where(report: AblationReport, console: Console) -> None:
    """Print where the report lies."""
    console.print(f"Report: {report.files[0]}", soft_wrap=True, highlight=False)


def show_verdicts(found: Verdicts, console: Console) -> None:
    """Print the verdict table."""
    finished, asked = found.cells.finished, found.measured.asked
    told = f"Ablation {found.table.name}: {int(finished.sum())} of {int(asked.sum())} trials completed"
    console.print(told, style="bold", highlight=False)
    for caution in verdicts.cautions(found):
        console.print("".join(piece for _, piece in marks(caution)), highlight=False, markup=False)
    shown = columns("contrast", "effect [95 % interval]", "Holm p", "verdict", "more replicates", "n")
    for one in found.judged:
        effect = one.effect
        size = escape(format.effected(effect.estimate, effect.low, effect.high))
        sign = markdown.cell(format.verdict(one.verdict))
        shown.add_row(
            escape(effect.contrast), size, format.probability(one.holm_p), sign, format.more(one),
            f"{effect.replicates} x {effect.images}",
        )  # fmt: skip
    show_table(shown, console)
    if remark := verdicts.overstated(found):
        console.print(remark, highlight=False, markup=False)
