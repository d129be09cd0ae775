"""Effects of an ablation's contrasts with their intervals: overall and on each target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.reports.document import Tone
from harness.reports.figures import style


@dataclass(frozen=True)
class Line:
    """One interval: what it is of, ``n`` in words, and how its verdict looks (None: no verdict of its own)."""

    label: str
    estimate: float
    low: float
    high: float
    n: str
    tone: Tone | None


LOOKS: Mapping[Tone, tuple[str, str, bool, str]] = {
    "helps": (style.GREEN, "D", True, "-"),
    "hurts": (style.VERMILLION, "D", True, "-"),
    "perhaps_helps": (style.GREEN, "D", False, "-"),
    "perhaps_hurts": (style.VERMILLION, "D", False, "-"),
    "opposed": (style.PURPLE, "X", True, "-"),
    "average": (style.BLUE, "s", False, "-."),
    "equal": (style.BLUE, "s", True, "-"),
    "undecided": (style.GREY, "o", False, "--"),
}
"""Colour, marker, whether it is filled, and line of each verdict: undecided is dashed, shown to be small is not."""
WORDS: Mapping[Tone, str] = {
    "helps": "matters: helps",
    "hurts": "matters: hurts",
    "perhaps_helps": "helps, perhaps too little to matter",
    "perhaps_hurts": "hurts, perhaps too little to matter",
    "opposed": "helps on some targets, hurts on others",
    "average": "does not matter on average",
    "equal": "does not matter",
    "undecided": "undecided",
}


def draw(groups: Sequence[tuple[Line, Sequence[Line]]], smallest: float, metric: str) -> Figure:
    """A group of lines per contrast: the verdict's on all targets together in bold, then the thin ones of each target.

    The grey band is what is too small to be of interest. A line without an interval (NaN) is its marker alone.
    """
    count = sum(1 + len(targets) for _, targets in groups)
    figure = style.figure(8.2, 1.3 + 0.24 * count + 0.16 * len(groups))
    axes = figure.add_subplot()
    axes.axvspan(-smallest, smallest, color="#EFEFEF", zorder=0, label=f"too small to be of interest (±{smallest:g})")
    axes.axvline(0, color="black", lw=0.8, zorder=1)
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
    style.tidy(axes)
    axes.grid(False, axis="y")
    _legend(figure, axes, {overall.tone for overall, _ in groups})
    return figure


def _line(axes: Axes, line: Line, height: float) -> None:
    colour, marker, filled, dashes = LOOKS[line.tone] if line.tone else ("#555555", "|", True, "-")
    strong = line.tone is not None
    if line.low == line.low:  # NaN: no interval
        axes.plot([line.low, line.high], [height] * 2, color=colour, lw=2.2 if strong else 1.0, ls=dashes, zorder=3)
    face = colour if filled else "white"
    axes.plot([line.estimate], [height], marker, color=colour, mfc=face, ms=7 if strong else 6, mew=1.5, zorder=4)


def _legend(figure: Figure, axes: Axes, tones: set[Tone | None]) -> None:
    for tone, words in WORDS.items():
        if tone in tones:
            colour, marker, filled, dashes = LOOKS[tone]
            face = colour if filled else "white"
            axes.plot([], [], marker=marker, color=colour, mfc=face, ls=dashes, lw=2, label=words)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False, fontsize=8)
