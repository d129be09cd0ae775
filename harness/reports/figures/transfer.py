"""Mean scores by arm and test set, as a map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.reports.figures import style
from harness.stats.scores import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(rows: Sequence[str], columns: Sequence[str], seen: Sequence[bool], values: Floats, metric: str) -> Figure:
    """``values`` (rows, columns): mean scores, NaN where there is none. ``seen``: columns that were trained on."""
    figure = style.figure(2.6 + 0.95 * len(columns), 1.4 + 0.42 * len(rows))
    axes = figure.add_subplot()
    texts = [[f"{value:.3f}" if np.isfinite(value) else "no score" for value in row] for row in values]
    image = style.score_map(axes, values, texts)
    names = [f"{name}\n({'source' if own else 'unseen'})" for name, own in zip(columns, seen, strict=True)]
    axes.set_xticks(range(len(columns)), names, fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    figure.colorbar(image, ax=axes, label=f"mean {metric}", shrink=0.9)
    return figure
