"""The common style of all figures: colours for colour-blind readers, and one look for each outcome and each verdict.

Matplotlib takes a second to load, so only what draws imports it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from harness.record.metric_names import metric_name
from harness.record.table import StudyTable, metric_of
from harness.reports.document import Tone
from sam2lora.intervals import ORACLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

# Okabe and Ito (2008), "Color universal design".
BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
GREY = "#8A8A8A"
INK, PAPER = "black", "white"

SOURCE, TARGET = BLUE, VERMILLION
BEST, BEST_RING = GREEN, VERMILLION
ESTIMATE, EXPECTED, CHANCE, SHARE = BLUE, VERMILLION, VERMILLION, SKY
OTHER_ARMS, NEGLIGIBLE, NO_SCORE = "#C8C8C8", "#EFEFEF", "#D0D0D0"
GRID, TERNARY_GRID, LEGEND_ON_SURFACE = "#E4E4E4", "#DDDDDD", "#9AA4B0"
UNKNOWN_SIGN, UNKNOWN_CELL = "////", "#C4C4C4"
"""The hatch of what may be above or below 0, and its colour in a map."""
SCORES, SIGNED = "cividis", "PuOr_r"
"""Colour maps of scores, and of numbers around 0."""
PLACES = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "*")
"""The markers of the best trials by place."""
VERDICT_WIDTH, EFFECT_WIDTH = 2.2, 1.0
BEST_WIDTH, TRIAL_WIDTH = 2.6, 0.9
ARM_WIDTH, OTHER_ARMS_WIDTH = 1.8, 0.8
DPI = 160

Where = Literal["outside upper center", "outside lower center", "outside right upper"]


class Look(NamedTuple):
    """How an outcome or a verdict is drawn: its words, marker, colour, whether the marker is filled, and its line."""

    words: str
    marker: str
    colour: str
    filled: bool
    line: str = "-"

    @property
    def face(self) -> str:
        """The colour inside the marker."""
        return self.colour if self.filled else PAPER


OUTCOMES = {
    "completed": Look("completed", "o", BLUE, True),
    "stopped": Look("stopped early", "o", GREY, False),
    "diverged": Look("diverged", "x", VERMILLION, True),
    "out_of_memory": Look("out of memory", "s", PURPLE, False),
    "infeasible": Look("infeasible", "v", SKY, False),
    "crashed": Look("crashed", "^", ORANGE, False),
}
ON_FRONT, OFF_FRONT = Look("on the front", "o", GREEN, True), Look("other completed", "o", GREY, False)
VERDICTS: Mapping[Tone, Look] = {
    "helps": Look("matters: helps", "D", GREEN, True),
    "hurts": Look("matters: hurts", "D", VERMILLION, True),
    "perhaps_helps": Look("helps, perhaps too little to matter", "D", GREEN, False),
    "perhaps_hurts": Look("hurts, perhaps too little to matter", "D", VERMILLION, False),
    "opposed": Look("helps on some targets, hurts on others", "X", PURPLE, True),
    "average": Look("does not matter on average", "s", BLUE, False, "-."),
    "equal": Look("does not matter", "s", BLUE, True),
    "undecided": Look("undecided", "o", GREY, False, "--"),
}
"""Undecided is dashed; shown to be small is not."""
NO_VERDICT = Look("on a single target", "|", "#555555", True)


def figure(width: float, height: float) -> Figure:
    """An empty figure of ``width`` by ``height`` inches that lays itself out."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    empty = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(empty)
    return empty


def ternary(on: Figure, place: tuple[float, float, float, float]) -> Any:
    """Axes over three weights that add up to one, at ``place``: left, bottom, width and height as shares of ``on``."""
    # Registers the projection. Imported here: it takes a while, and few reports have a ternary plot.
    import mpltern  # noqa: F401

    on.set_layout_engine("none")  # automatic layout takes seconds on a ternary plot
    return on.add_axes(place, projection="ternary")


def corners(axes: Any, names: Iterable[str]) -> None:
    """Name the corners of ternary axes: above the top one, below the tick labels of the lower ones."""
    spots = ((1.15, -0.075, -0.075), (-0.14, 1.07, 0.07), (-0.14, 0.07, 1.07))
    for name, spot in zip(names, spots, strict=True):
        axes.text(*spot, name, ha="center", va="center")


def panels(names: Sequence[str], x: str, y: str) -> tuple[Figure, list[Axes]]:
    """A figure with a small panel for each of ``names``, four in a row, all with the same axes ``x`` and ``y``."""
    across = min(len(names), 4)
    down = -(-len(names) // across)
    made = figure(max(2.5 * across, 3.6), 2.1 * down + 0.5)
    grid = made.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    for axes in grid[: len(names)]:
        whole_numbers(axes.xaxis)
        tidy(axes)
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    made.supxlabel(x, fontsize=10)
    made.supylabel(y, fontsize=10)
    return made, grid[: len(names)]


def whole_numbers(axis: Axis) -> None:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def tidy(axes: Axes, grid: Literal["both", "x"] = "both") -> None:
    """Take away what carries no information: the upper and right frame; a faint grid stays for reading off."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, axis=grid, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def rows(axes: Axes, names: Sequence[str]) -> None:
    """Lay out ``names`` from top to bottom, for bars, with a grid for their lengths."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    tidy(axes, grid="x")


def score_map(axes: Axes, values: np.ndarray, texts: Sequence[Sequence[str]]) -> AxesImage:
    """A map of ``values`` (rows, columns), NaN in white, with the text of each cell."""
    image = axes.imshow(np.ma.masked_invalid(values), cmap=SCORES, aspect="auto")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (row, column), value in np.ndenumerate(values):
        if text := texts[row][column]:
            ink = PAPER if value <= middle else INK
            axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)
    frameless(axes)
    return image


def frameless(axes: Axes) -> None:
    """Take away the frame and the marks of the ticks, for a map."""
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def legend(figure: Figure, axes: Axes, where: Where, ncols: int, fontsize: int = 9) -> None:
    """A legend of what ``axes`` shows, at the edge ``where`` of the figure."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc=where, ncols=ncols, frameon=False, fontsize=fontsize)


def points(axes: Axes, x: Sequence[float], y: Sequence[float], look: Look, size: float = 30) -> None:
    """A scatter in the look of an outcome, labelled with its words and how many there are."""
    colours: dict[str, Any] = {"facecolor": look.face, "edgecolor": look.colour}
    if look.marker == "x":  # has no face
        colours = {"color": look.colour}
    axes.scatter(x, y, s=size, marker=look.marker, label=f"{look.words} ({len(x)})", zorder=3, **colours)


def prompted(trials: pd.DataFrame) -> pd.DataFrame:
    """Those of ``trials`` that were prompted from the ground truth."""
    return trials[trials["oracle_prompt"].fillna(False).astype(bool)]


def oracle(axes: Axes, *at: Sequence[float]) -> None:
    """Lay `ORACLE` over the points ``at`` (one sequence per axis), which scores prompted from the ground truth have."""
    if len(at[0]):
        text = f"prompted from ground truth ({len(at[0])})"
        look: dict[str, Any] = {"s": 46, "marker": r"$\dagger$", "color": INK, "lw": 0.4}
        axes.scatter(*at, **look, label=text, zorder=5, clip_on=False)


def mark(number: int, among: pd.DataFrame) -> str:
    """`ORACLE`, with a space before it, if trial ``number`` is one of the `prompted` trials ``among``."""
    return f" {ORACLE}" if (among["number"] == number).any() else ""


def objective(table: StudyTable) -> str:
    """The objective as an axis label: "validation Dice" for ``val/dice``."""
    return f"validation {metric_name(metric_of(table))}"


def save(drawn: Figure, stem: Path) -> list[Path]:
    """Write ``drawn`` as ``stem.png`` and ``stem.svg``; equal figures give equal bytes (no date, no random ids)."""
    import matplotlib as mpl

    png, svg = stem.with_suffix(".png"), stem.with_suffix(".svg")
    _read_no_formulas(drawn)
    # Laid out once: Matplotlib would do it for each file, and draw the whole figure once more for that.
    if (layout := drawn.get_layout_engine()) is not None:
        layout.execute(drawn)
        drawn.set_layout_engine(None)
    with mpl.rc_context({"svg.hashsalt": stem.name}):
        drawn.savefig(png, dpi=DPI, metadata={"Software": None})
        drawn.savefig(svg, metadata={"Date": None})
    return [png, svg]


def _read_no_formulas(drawn: Figure) -> None:
    """Let a dollar sign in a name be one; the numbers at a logarithmic axis are formulas, and stay it."""
    from matplotlib.text import Text
    from matplotlib.ticker import LogFormatter

    for text in drawn.findobj(Text):
        text.set_parse_math(False)
    for axes in drawn.axes:
        for axis in (axes.xaxis, axes.yaxis):
            logarithmic = isinstance(axis.get_major_formatter(), LogFormatter)
            for label in axis.get_ticklabels(which="both"):
                label.set_parse_math(logarithmic)
