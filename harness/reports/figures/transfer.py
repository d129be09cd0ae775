"""What was trained on against what was tested on, as a map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from harness.reports.figures import style
from harness.stats.scores import Floats


def draw(rows: Sequence[str], columns: Sequence[str], seen: Sequence[bool], values: Floats, metric: str) -> Figure:
    """``values`` (rows, columns): mean scores, NaN where there is none. ``seen``: columns that were trained on."""
    figure = style.figure(2.6 + 0.95 * len(columns), 1.4 + 0.42 * len(rows))
    axes = figure.add_subplot()
    image = axes.imshow(np.ma.masked_invalid(values), cmap="cividis", aspect="auto")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (row, column), value in np.ndenumerate(values):
        ink = "black" if value > middle else "white"
        text = f"{value:.3f}" if np.isfinite(value) else "no score"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink if np.isfinite(value) else "black")
    names = [f"{name}\n({'source' if own else 'unseen'})" for name, own in zip(columns, seen, strict=True)]
    axes.set_xticks(range(len(columns)), names, fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label=f"mean {metric}", shrink=0.9)
    return figure
