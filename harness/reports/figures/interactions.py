"""Pairwise interactions of components, as a map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from harness.reports.figures import style
from harness.reports.figures.values import Value

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(components: Sequence[str], pairs: Mapping[frozenset[str], Value]) -> Figure:
    """The lower triangle: blue where two components hinder each other, orange where they help.

    A pair whose interval holds 0, or that has none, is white and hatched: nothing is known of it, and it
    must not look like 0.
    """
    from matplotlib.patches import Rectangle

    size = len(components)
    figure = style.figure(2.4 + 1.35 * (size - 1), 1.3 + 0.8 * (size - 1))
    axes = figure.add_subplot()
    reach = max((abs(one.value) for one in pairs.values()), default=1.0) or 1.0
    shown = np.full((size - 1, size - 1), np.nan)
    for row in range(1, size):
        for column in range(row):
            one = pairs.get(frozenset({components[row], components[column]}))
            if one is None:
                continue
            if one.low > 0 or one.high < 0:
                shown[row - 1, column] = one.value
            else:
                cell = (column - 0.5, row - 1.5)
                hatch, colour = style.UNKNOWN_SIGN, style.UNKNOWN_CELL
                axes.add_patch(Rectangle(cell, 1, 1, fill=False, hatch=hatch, ec=colour, lw=0.5, zorder=1))
            interval = f"[{one.low:+.4f},\n{one.high:+.4f}]" if np.isfinite(one.low) else "no interval"
            text = f"{one.value:+.4f}\n{interval}"
            box = {"facecolor": style.PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
            axes.text(column, row - 1, text, ha="center", va="center", fontsize=8, bbox=box, zorder=3)
    image = axes.imshow(
        np.ma.masked_invalid(shown), cmap=style.SIGNED, vmin=-reach, vmax=reach, aspect="auto", zorder=0
    )
    axes.set_xticks(range(size - 1), components[:-1], fontsize=9)
    axes.set_yticks(range(size - 1), components[1:], fontsize=9)
    axes.set_xlim(-0.5, size - 1.5)
    axes.set_ylim(size - 1.5, -0.5)
    style.frameless(axes)
    figure.colorbar(image, ax=axes, label="interaction", shrink=0.85)
    return figure
