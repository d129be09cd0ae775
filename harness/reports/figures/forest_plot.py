"""Effects of an ablation's contrasts with their intervals: overall and on each target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.reports.document import Tone
from harness.reports.figures import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Line:
    """One interval: its label, ``n`` in words, and the appearance of its verdict (None: it has no verdict)."""

    label: str
    estimate: float
    low: float
    high: float
    n: str
    tone: Tone | None


def draw(groups: Sequence[tuple[Line, Sequence[Line]]], smallest: float, metric: str) -> Figure:
    """A group of lines per contrast: the verdict's on all targets together in bold, then the thin ones of each target.

    The grey band is what is too small to be of interest. A line without an interval (NaN) is its marker alone.
    """
    count = sum(1 + len(targets) for _, targets in groups)
    figure = style.figure(8.2, 1.3 + 0.24 * count + 0.16 * len(groups))
    axes = figure.add_subplot()
    axes.axvspan(
        -smallest, smallest, color=style.NEGLIGIBLE, zorder=0, label=f"too small to be of interest (±{smallest:g})"
    )
    axes.axvline(0, color=style.INK, lw=0.8, zorder=1)
    places: list[tuple[float, str]] = []
    height = 0.0
    for overall, targets in groups:
        for line in (overall, *targets):
            _line(axes, line, height)
            places.append((height, f"{line.label}  (n = {line.n})"))
            height += 1.0
        height += 0.6
    axes.set_yticks([place for place, _ in places], [label for _, label in places], fontsize=8)
    bold = {overall.label for overall, _ in groups}
    for tick, (_, label) in zip(axes.get_yticklabels(), places, strict=True):
        if label.split("  (n")[0] in bold:
            tick.set_fontweight("bold")
    axes.set_ylim(height - 0.9, -0.7)
    axes.set_xlabel(f"effect on {metric}, with its 95 % interval")
    style.tidy(axes, grid="x")
    for tone, look in style.VERDICTS.items():
        if any(overall.tone == tone for overall, _ in groups):
            axes.plot(
                [], [], marker=look.marker, color=look.colour, mfc=look.face, ls=look.line, lw=2, label=look.words
            )
    style.legend(figure, axes, "outside upper center", ncols=3, fontsize=8)
    return figure


def _line(axes: Axes, line: Line, height: float) -> None:
    look = style.VERDICTS[line.tone] if line.tone else style.NO_VERDICT
    width, size = (style.VERDICT_WIDTH, 7) if line.tone else (style.EFFECT_WIDTH, 6)
    if line.low == line.low:  # NaN: no interval
        axes.plot([line.low, line.high], [height] * 2, color=look.colour, lw=width, ls=look.line, zorder=3)
    axes.plot([line.estimate], [height], look.marker, color=look.colour, mfc=look.face, ms=size, mew=1.5, zorder=4)
