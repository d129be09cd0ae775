"""Every combination of two categorical settings, as a map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from harness.importance.levels import axes as axes_of
from harness.record.metric_names import metric_name
from harness.record.table import StudyTable, label, metric_of
from harness.reports.figures import style
from sam2lora.intervals import ORACLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(table: StudyTable, cross: pd.DataFrame) -> Figure:
    """A map of mean validation scores and, where targets were tested, one of mean test scores beside it.

    ``cross``: as `harness.importance.levels.cross` makes it, of the sampler or of the probe, with a completed trial or
    more. Each map has its own scale; a combination without a completed trial is left white, one with a trial prompted
    from the ground truth is marked.
    """
    metric = metric_name(metric_of(table))
    panels = {"validation": f"validation {metric}", "target": f"test {metric}, mean over targets"}
    shown = [name for name in panels if cross[name].notna().any()]
    rows, columns = list(dict.fromkeys(cross["row"])), list(dict.fromkeys(cross["column"]))
    prompted = (cross["oracle_trials"] > 0).to_numpy().reshape(len(rows), len(columns))
    longest = max(map(len, columns))
    width = 1.6 + len(shown) * (1.2 + 0.78 * len(columns))
    figure = style.figure(width, 1.8 + 0.42 * len(rows) + 0.07 * longest)
    for index, name in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), index + 1)
        values = cross[name].to_numpy(dtype=float).reshape(len(rows), len(columns))
        texts = [[f"{value:.3f}" if np.isfinite(value) else "" for value in row] for row in values]
        for row, column in np.argwhere(prompted & np.isfinite(values)):
            texts[row][column] += f" {ORACLE}"
        style.score_map(axes, values, texts)
        axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(rows)), rows)
        axes.set_title(panels[name], fontsize=10, loc="left")
        (down, _), (across, _) = axes_of(table)
        axes.set_xlabel(label(across))
        if index == 0:
            axes.set_ylabel(label(down))
    if prompted.any():
        figure.supxlabel(f"{ORACLE} with trials prompted from ground truth", fontsize=9)
    return figure
