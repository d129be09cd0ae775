"""What all figures share: colours that the colour-blind can tell apart, and one look per outcome."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness.record.table import ORACLE, StudyTable, metric_name, metric_of

# Okabe and Ito (2008), "Color universal design".
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
GREY = "#8A8A8A"
SOURCE, TARGET = BLUE, VERMILLION
DPI = 160


class Look(NamedTuple):
    """How an outcome is drawn: its words, its marker, its colour, and whether the marker is filled."""

    words: str
    marker: str
    colour: str
    filled: bool


LOOKS = {
    "completed": Look("completed", "o", BLUE, True),
    "stopped": Look("stopped early", "o", GREY, False),
    "diverged": Look("diverged", "x", VERMILLION, True),
    "out_of_memory": Look("out of memory", "s", PURPLE, False),
    "infeasible": Look("infeasible", "v", SKY, False),
    "crashed": Look("crashed", "^", ORANGE, False),
}


def figure(width: float, height: float) -> Figure:
    """An empty figure of ``width`` by ``height`` inches that lays itself out."""
    empty = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(empty)
    return empty


def ternary(on: Figure, place: tuple[float, float, float, float]) -> Any:
    """Axes over three weights that add up to one, at ``place``: left, bottom, width and height as shares of ``on``."""
    # Registers the projection. Imported here: it takes a while, and few reports have a ternary plot.
    import mpltern  # noqa: F401

    return on.add_axes(place, projection="ternary")


def tidy(axes: Axes) -> None:
    """Take away what carries no information: the upper and right frame; a faint grid stays for reading off."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#E4E4E4", linewidth=0.7)
    axes.set_axisbelow(True)


def points(axes: Axes, x: Sequence[float], y: Sequence[float], look: Look, size: float = 30) -> None:
    """A scatter in the look of an outcome, labelled with its words and how many there are."""
    if look.marker == "x":
        axes.scatter(x, y, s=size, marker="x", color=look.colour, label=f"{look.words} ({len(x)})", zorder=3)
        return
    face = look.colour if look.filled else "white"
    label = f"{look.words} ({len(x)})"
    axes.scatter(x, y, s=size, marker=look.marker, facecolor=face, edgecolor=look.colour, label=label, zorder=3)


def told(trials: pd.DataFrame) -> pd.DataFrame:
    """Those of ``trials`` that were prompted from the ground truth."""
    return trials[trials["oracle_prompt"].fillna(False).astype(bool)]


def oracle(axes: Axes, *at: Sequence[float]) -> None:
    """Lay `ORACLE` over the points ``at`` (one sequence per axis), which scores prompted from the ground truth have."""
    if len(at[0]):
        text = f"prompted from ground truth ({len(at[0])})"
        look: dict[str, Any] = {"s": 46, "marker": r"$\dagger$", "color": "black", "lw": 0.4}
        axes.scatter(*at, **look, label=text, zorder=5, clip_on=False)


def mark(number: int, among: pd.DataFrame) -> str:
    """`ORACLE`, with a space before it, if trial ``number`` is one of the `told` trials ``among``."""
    return f" {ORACLE}" if (among["number"] == number).any() else ""


def objective(table: StudyTable) -> str:
    """The objective as an axis label: "validation Dice" for ``val/dice``."""
    return f"validation {metric_name(metric_of(table))}"


def save(drawn: Figure, stem: Path) -> list[Path]:
    """Write ``drawn`` as ``stem.png`` and ``stem.svg``; equal figures give equal bytes (no date, no random ids)."""
    png, svg = stem.with_suffix(".png"), stem.with_suffix(".svg")
    # Laid out once: Matplotlib would do it for each file, and draw the whole figure once more for that.
    if (layout := drawn.get_layout_engine()) is not None:
        layout.execute(drawn)
        drawn.set_layout_engine(None)
    with mpl.rc_context({"svg.hashsalt": stem.name}):
        drawn.savefig(png, dpi=DPI, metadata={"Software": None})
        drawn.savefig(svg, metadata={"Date": None})
    return [png, svg]
