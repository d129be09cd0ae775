"""The report of an ablation: one HTML page, Markdown, tables as LaTeX and CSV, figures as PNG and SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from harness.record.locations import report_folder, study_folder
from harness.record.table import StudyTable
from harness.reports.ablation import format, verdicts
from harness.reports.ablation.findings import Findings, analyse
from harness.reports.ablation.judgement import Judgement, judge
from harness.reports.ablation.page import document
from harness.reports.document import marks
from harness.reports.rendering import files, markdown
from harness.reports.rendering.console import show as show_table
from harness.reports.rendering.console import table as columns
from harness.stats.multiplicity import CORRECTION
from harness.tracking.tracker import OpenHint


@dataclass(frozen=True)
class AblationReport:
    """A written report: its folder, its files (``report.html`` first) and its findings."""

    folder: Path
    files: tuple[Path, ...]
    findings: Findings
    front: tuple[int, ...] = ()

    @property
    def note(self) -> str:
        """The verdicts in plain words."""
        return verdicts.plainly(self.findings)

    @property
    def summary(self) -> dict[str, float]:
        """Effects and means that have an interval, and p-values, by name: a tracker shows each number on its own.

        Only finite numbers, since a tracker would draw the others as points.
        """
        return {name: value for name, value in _summary(self.findings).items() if math.isfinite(value)}

    @property
    def tags(self) -> dict[str, str]:
        """The verdict of every comparison in a few words, by name, for a tracker's table of studies."""
        return {f"verdict/{one.effect.contrast}": format.verdict_line(one) for one in self.findings.judged}


def write(table: StudyTable, folder: Path, hint: OpenHint, seed: int, console: Console) -> AblationReport:
    """Write the report into ``folder/STUDY/report``, which is made; print each part as soon as it is known.

    Equal tables give equal files.
    """
    judgement = judge(table, seed)
    show_verdicts(judgement, console)
    study, place = study_folder(table.out, table.name), report_folder(study_folder(folder, table.name))
    with console.status("Cross-checking and drawing ..."):
        findings = analyse(judgement, seed, table.out)
        page = document(findings, hint, study)
        paths = files.write(page, {"trials": table.trials}, place)
    console.print(f"Report: {paths[0]}", soft_wrap=True, highlight=False, markup=False)
    return AblationReport(place, paths, findings)


def _summary(findings: Findings) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for one in findings.judged:
        name, effect = f"effect/{one.effect.contrast}", one.effect
        if not effect.why:
            numbers |= {name: effect.estimate, f"{name}/low": effect.low, f"{name}/high": effect.high}
        numbers |= {f"{name}/holm_p": one.differs_p, f"{name}/beyond_p": one.beyond_p}
        numbers |= {f"{name}/equivalence_p": one.equivalence_p, f"{name}/everywhere_p": one.everywhere_p}
        numbers[f"{name}/replicates"] = float(effect.replicates)
    for mean in findings.means:
        name = f"mean/{mean.arm}/{mean.target or 'all'}"
        if not mean.why:
            numbers |= {name: mean.mean, f"{name}/low": mean.low, f"{name}/high": mean.high}
        numbers |= {f"{name}/replicates": float(mean.replicates), f"{name}/images": float(mean.images)}
    return numbers


def show_verdicts(judgement: Judgement, console: Console) -> None:
    """Print the verdict table."""
    finished, asked = judgement.cells.finished, judgement.scores.asked
    text = f"Ablation {judgement.table.name}: {int(finished.sum())} of {int(asked.sum())} trials completed"
    console.print(text, style="bold", highlight=False, markup=False)
    for caution in verdicts.cautions(judgement):
        console.print("".join(piece for _, piece in marks(caution)), highlight=False, markup=False)
    shown = columns("contrast", "effect [95 % interval]", f"{CORRECTION} p", "verdict", "more replicates", "n")
    for one in judgement.judged:
        effect = one.effect
        size = format.effect_with_interval(effect.estimate, effect.low, effect.high)
        sign = markdown.cell(format.verdict_cell(one.verdict))
        shown.add_row(
            effect.contrast, size, format.probability(one.differs_p), sign, format.replicates_needed(one),
            f"{effect.replicates} x {effect.images}",
        )  # fmt: skip
    show_table(shown, console)
    if remark := verdicts.overstated(judgement):
        console.print(remark, highlight=False, markup=False)
