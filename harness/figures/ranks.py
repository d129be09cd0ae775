"""A critical-difference diagram (Demsar 2006): mean ranks of arms over data sets."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from harness.figures import style


def draw(arms: Sequence[str], ranks: Sequence[float], groups: Sequence[Sequence[str]], distance: float) -> Figure:
    """Arms on an axis of ranks, best on the left; a bar joins those that are not told apart."""
    figure = style.figure(8.0, 1.3 + 0.26 * len(arms) + 0.16 * len(groups))
    axes = figure.add_subplot()
    place = dict(zip(arms, ranks, strict=True))
    axes.set_xlim(0.5, len(arms) + 0.5)
    axes.set_ylim(len(arms) + 0.3 * len(groups) + 1.5, -0.9)
    axes.plot([1, 1 + distance], [-0.2, -0.2], color="black", lw=1.2)
    axes.text(1, -0.32, f"critical difference {distance:.2f}", va="bottom", fontsize=8)
    for bar, group in enumerate(groups):
        span = [place[group[0]] - 0.04, place[group[-1]] + 0.04]
        axes.plot(span, [0.4 + 0.3 * bar] * 2, color="black", lw=3.2, solid_capstyle="butt")
    top = 0.4 + 0.3 * len(groups)
    for row, arm in enumerate(arms):
        height = top + 0.6 + row
        axes.plot([place[arm], place[arm]], [0.1, height], color=style.GREY, lw=0.7, zorder=1)
        axes.plot([place[arm]], [height], "o", color=style.BLUE, ms=5, zorder=2)
        left = place[arm] > (len(arms) + 1) / 2
        away, side = (-0.08, "right") if left else (0.08, "left")
        axes.text(place[arm] + away, height, f"{arm} ({place[arm]:.2f})", va="center", ha=side, fontsize=8)
    axes.set_xlabel("mean rank over data sets (1 is the best)")
    axes.set_yticks([])
    style.tidy(axes)
    axes.spines["left"].set_visible(False)
    return figure
