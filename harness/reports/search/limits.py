"""What was left out, and what a search cannot tell."""

from __future__ import annotations

import pandas as pd

from harness.record.table import empty_truths
from harness.reports.document import Block, Items, Section, Table, Text, row
from harness.reports.search.findings import Findings
from harness.reports.search.overview import needed, shots_of
from harness.text import count, listed


def left_out(found: Findings) -> Section:
    """Undefined scores and files that could not be read."""
    title, gone, undefined = "What was left out", found.table.left_out, undefined_counts(found)
    empty = empty_truths(found.table.images)
    if gone.empty and undefined.empty:
        return Section(title, (Text("Nothing: every per-image file was read, and every score was defined."),))
    blocks: list[Block] = [Items(tuple(empty))] if empty else []
    if len(undefined):
        caption = "Images whose score is not a number are left out of the means and counted here."
        cells = tuple(row(*map(str, line)) for line in undefined.itertuples(index=False, name=None))
        blocks.append(Table("undefined", caption, ("data set", "metric", "undefined", "of"), cells, undefined))
    if len(gone):
        caption = "Per-image files that could not be read; their trials keep their recorded means, without intervals."
        cells = tuple(row(str(one["number"]), f"`{one['path']}`", one["why"]) for one in gone.to_dict("records"))
        blocks.append(Table("unread", caption, ("trial", "file", "why"), cells, gone))
    return Section(title, tuple(blocks))


def undefined_counts(found: Findings) -> pd.DataFrame:
    """Undefined scores by data set and metric, over all completed trials that were read; no row where there is none."""
    images = found.table.images
    metrics = [name for name in images.columns if pd.api.types.is_float_dtype(images[name])]
    rows = [
        (dataset, metric, int(part[metric].isna().sum()), len(part))
        for dataset, part in images.groupby("dataset")
        for metric in metrics
        if part[metric].isna().any()
    ]
    return pd.DataFrame(rows, columns=["dataset", "metric", "undefined", "n"])


def limits(found: Findings) -> Section:
    """Why some conclusions must not be drawn."""
    table = found.table
    lines = [needed(found)] if needed(found) else []
    few = found.scores[(found.scores["metric"] == found.metric) & (found.scores["clusters"] < 10)]["dataset"].unique()
    if len(few):
        lines.append(
            f"Fewer than 10 patients in {listed(sorted(few))}: intervals over so few are wide, and they assume "
            "that the hospital's other patients score no more unevenly than these."
        )
    if table.trials["seed"].dropna().nunique() <= 1:
        lines.append(
            "Every setting was trained with one seed: a difference between places that is smaller than the spread "
            "between seeds means nothing. Train the best again with other seeds, or run an ablation, to claim it."
        )
    targets = len(table.question.get("targets") or ())
    if targets:
        judged = "hospital" if shots_of(table.question) else "unseen hospital"
        lines.append(
            f"{count(targets, judged)}: the scores speak of these, not of hospitals in general. All of them judged the "
            "same trained models, so that a test that takes hospitals for independent is wrong, however many there are."
        )
    if found.mixed:
        lines.append(
            "Trials with and without prompts from the ground truth are mixed. Importance compares all of them: that of "
            "a setting that decides about the test prompt says what the prompt gives away, not what the model learned."
        )
    lines.append("A search shows which settings did well, not why. Cause and effect of a component need an ablation.")
    return Section("What this report cannot tell", (Items(tuple(lines)),))
