"""Importance of every parameter under several evaluators, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from harness.record.table import label
from harness.reports.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Panel:
    """One evaluator: its name, the question it answers and its table (see `harness.importance.resampling`)."""

    title: str
    question: str
    table: pd.DataFrame


def draw(panels: Sequence[Panel]) -> Figure:
    """Bars with their spread over refits, a panel per evaluator, parameters in the order of the first.

    A tick marks chance, where a level of chance holds.

    A panel whose evaluator refused says why in place of bars.
    """
    order = list(panels[0].table["parameter"])[::-1]
    figure = style.figure(4.6 * len(panels) + 0.8, 1.9 + 0.42 * max(len(order), 3))
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), index + 1)
        _bars(axes, panel, order)
        if index > 0:
            axes.tick_params(labelleft=False)
    if figure.axes[0].get_legend_handles_labels()[0]:
        style.legend(figure, figure.axes[0], "outside lower center", ncols=3)
    return figure


def _bars(axes: Axes, panel: Panel, order: Sequence[str]) -> None:
    rows = panel.table.set_index("parameter").reindex(list(order))
    place = np.arange(len(order))
    shown = rows["importance"].notna().to_numpy()
    n = int(rows["n"].max()) if len(rows) else 0
    axes.set_title(f"{panel.title}, {n} completed trials\n{fill(panel.question, 52)}", fontsize=10, loc="left")
    axes.set_yticks(place, [label(name) for name in order])
    axes.set_ylim(-0.6, len(order) - 0.4)
    style.tidy(axes, grid="x")
    if not shown.any():
        note = str(rows["note"].iloc[0]) if len(rows) else "no parameter was searched"
        axes.text(0.5, 0.5, f"not shown:\n{fill(note, 34)}", ha="center", va="center", transform=axes.transAxes)
        axes.set_xticks([])
        return
    value, low, high = (rows[name].to_numpy(dtype=float)[shown] for name in ("importance", "low", "high"))
    axes.barh(place[shown], value, height=0.55, color=style.ESTIMATE, label="importance")
    span = [value - low, high - value]
    axes.errorbar(value, place[shown], xerr=span, fmt="none", ecolor=style.INK, capsize=3, lw=1.1, label="over refits")
    chance = rows["chance"].to_numpy(dtype=float)[shown]
    if (held := np.isfinite(chance)).any():
        axes.scatter(
            chance[held], place[shown][held], s=260, marker="|", color=style.CHANCE, lw=2, zorder=4,
            label="reach of chance",
        )  # fmt: skip
    for spot in place[~shown]:
        axes.text(0.01, spot, "not in every trial", va="center", fontsize=8, color=style.GREY)
    axes.set_xlim(0, 1)
    held = rows["chance"].notna().any()
    axes.set_xlabel("importance (share, 0 to 1)" + ("" if held else ", no chance level: chosen by a sampler"))
