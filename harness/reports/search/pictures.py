"""Example predictions of the best trial: photograph, truth, prediction and errors on every data set."""

from __future__ import annotations

from pathlib import Path

from harness.reports.document import Refusal, Section
from harness.reports.rendering import gallery
from harness.reports.search.best import judged
from harness.reports.search.findings import Findings
from harness.reports.search.format import marked


def panels(findings: Findings, folder: Path) -> Section:
    """A picture for every data set, from the best trial. ``folder``: that of the study."""
    sheet = gallery.sheet(folder, "" if findings.best.empty else str(findings.best.iloc[0]["key"]))
    if not gallery.rows(sheet):
        return Section(gallery.TITLE, (Refusal("there is no best trial yet, or it has no pictures."),))
    scores = findings.scores[findings.scores["place"] == 1]
    images = (scores["n"] + scores["undefined"].fillna(0)).groupby(scores["dataset"]).max()
    which = (
        f"The best trial, {marked(findings.best.iloc[0].to_dict())}: its worst, median and best image by Dice, unseen "
        "hospitals first."
    )
    return gallery.section(sheet, which, {dataset: int(images[dataset]) for dataset, _ in judged(scores)})
