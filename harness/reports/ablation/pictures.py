"""Qualitative panels: photograph, truth, prediction and errors of the worst, median and best image of each target."""

from __future__ import annotations

from pathlib import Path

from harness.reports.ablation.findings import Findings
from harness.reports.document import Refusal, Section
from harness.reports.rendering import gallery


def panels(findings: Findings, folder: Path) -> Section:
    """A picture for each target, from one trial of the best arm. ``folder``: that of the study."""
    chosen = _chosen(findings, folder)
    if chosen is None:
        text = "no trial of the best arm has pictures (the study is simulated or was recorded by an earlier version)."
        return Section(gallery.TITLE, (Refusal(text),))
    arm, key = chosen
    trials = findings.table.trials
    number = int(trials.loc[trials["key"] == key, "number"].iloc[0])
    which = (
        f"One trial, not an average: the first replicate of the arm {arm} (trial {number}), which has the highest "
        "mean. The images are its worst, median and best by Dice."
    )
    images = {target.name: len(target.patients) for target in findings.cells.targets}
    return gallery.section(gallery.sheet(folder, key), which, images)


def _chosen(findings: Findings, folder: Path) -> tuple[str, str] | None:
    """Arm and key of the trial that is shown; None where no trial of the best arm has pictures."""
    best = findings.highest.arm if findings.highest else findings.reference
    place = findings.cells.arms.index(best) if best in findings.cells.arms else 0
    keys = (str(key) for key in findings.scores.keys[place] if key)
    return next(((best, key) for key in keys if gallery.rows(gallery.sheet(folder, key))), None)
