"""Scores and files that were left out, and conclusions that a search does not allow."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from harness.record.table import empty_truths
from harness.reports.document import Block, Columns, Items, Record, Section, Text, plain_table, table
from harness.reports.search.findings import Findings
from harness.reports.search.overview import needed, shots_of
from harness.text import count, listed


def left_out(findings: Findings) -> Section:
    """Undefined scores and files that could not be read."""
    title, gone, undefined = "What was left out", findings.table.left_out, undefined_counts(findings)
    empty = empty_truths(findings.table.images)
    if gone.empty and undefined.empty:
        return Section(title, (Text("Nothing: every per-image file was read, and every score was defined."),))
    blocks: list[Block] = [Items(tuple(empty))] if empty else []
    if len(undefined):
        caption = "Images whose score is not a number are left out of the means and counted here."
        shown = plain_table("undefined", caption, undefined)
        blocks.append(replace(shown, header=("data set", "metric", "undefined", "of")))
    if len(gone):
        caption = "Per-image files that could not be read; their trials keep their recorded means, without intervals."
        columns: Columns[Record] = {
            "trial": lambda one: str(one["number"]),
            "file": lambda one: f"`{one['path']}`",
            "why": lambda one: one["why"],
        }
        blocks.append(table("unread", caption, gone.to_dict("records"), columns, gone))
    return Section(title, tuple(blocks))


def undefined_counts(findings: Findings) -> pd.DataFrame:
    """Undefined scores by data set and metric, over all completed trials that were read; no row where there is none."""
    images = findings.table.images
    metrics = [name for name in images.columns if pd.api.types.is_float_dtype(images[name])]
    rows = [
        (dataset, metric, int(part[metric].isna().sum()), len(part))
        for dataset, part in images.groupby("dataset")
        for metric in metrics
        if part[metric].isna().any()
    ]
    return pd.DataFrame(rows, columns=["dataset", "metric", "undefined", "n"])


def limits(findings: Findings) -> Section:
    """The conclusions that must not be drawn, with the reasons."""
    table = findings.table
    lines = [needed(findings)] if needed(findings) else []
    few = findings.scores[(findings.scores["metric"] == findings.metric) & (findings.scores["clusters"] < 10)][
        "dataset"
    ].unique()
    if len(few):
        lines.append(
            f"Fewer than 10 patients in {listed(sorted(few))}: intervals over so few are wide, and they assume that "
            "the scores of the hospital's other patients vary no more than these."
        )
    if table.trials["seed"].dropna().nunique() <= 1:
        lines.append(
            "Every setting was trained with one seed: a difference between places that is smaller than the spread "
            "between seeds means nothing. Train the best settings again with other seeds, or run an ablation, before "
            "claiming one."
        )
    targets = len(table.question.get("targets") or ())
    if targets:
        judged = "hospital" if shots_of(table.question) else "unseen hospital"
        lines.append(
            f"{count(targets, judged)}: the scores are about these, not about hospitals in general. All of them tested "
            "the same trained models, so a test that assumes independent hospitals is wrong, however many there are."
        )
    if findings.mixed:
        lines.append(
            "Trials with and without prompts from the ground truth are mixed. Importance compares all of them: for a "
            "setting that decides the test prompt it shows what the prompt gives away, not what the model learned."
        )
    lines.append("A search shows which settings did well, not why. Cause and effect of a component need an ablation.")
    return Section("What this report cannot tell", (Items(tuple(lines)),))
