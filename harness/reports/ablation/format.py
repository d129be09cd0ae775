"""How numbers are written in an ablation's report: effects with their sign, scores, intervals, counts, verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable

from harness.reports.document import Cell, Tone
from harness.stats.effects import Effect
from harness.stats.ranks import Rank
from harness.stats.scores import Contrast
from harness.stats.verdicts import (
    Differs,
    DoesNotMatter,
    Judged,
    Matters,
    Opposed,
    SmallOnAverage,
    Undecided,
    Verdict,
)
from harness.text import count, listed

NONE = "n/a"
"""Stands where there is no number."""
ALONE = "no interval"
"""Stands where a number has none."""


def score(value: float) -> str:
    """A score with three decimals."""
    return NONE if math.isnan(value) else f"{value:.3f}"


def effect(value: float) -> str:
    """A difference of scores, with its sign and four decimals."""
    return NONE if math.isnan(value) else f"{value:+.4f}"


def size(value: float) -> str:
    """The size of a difference, without a sign."""
    return NONE if math.isnan(value) else f"{value:.4f}"


def scored(mean: float, low: float, high: float) -> str:
    """A score with its interval, or that it has none."""
    return _with_interval(score, mean, low, high)


def effected(estimate: float, low: float, high: float) -> str:
    """An effect with its interval, or that it has none."""
    return _with_interval(effect, estimate, low, high)


def _with_interval(written: Callable[[float], str], value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return NONE
    return f"{written(value)} ({ALONE})" if math.isnan(low) else f"{written(value)} [{written(low)}, {written(high)}]"


def rank(one: Rank | None) -> str:
    """A rank with those that are open, ``2 [1, 4]``."""
    return NONE if one is None else f"{one.place:g} [{one.best}, {one.worst}]"


def probability(value: float) -> str:
    """A p-value: three decimals, or that it is smaller than that shows."""
    if math.isnan(value):
        return NONE
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def percent(value: float, decimals: int = 0) -> str:
    """A share in percent."""
    return NONE if math.isnan(value) else f"{value:.{decimals}%}".replace("%", " %")


def share(used: int, declared: int) -> str:
    """``4 of 5``, or ``5`` where nothing is missing."""
    return str(used) if used == declared else f"{used} of {declared}"


def replicates(effect: Effect) -> str:
    """``4 of 5``, and how many of their runs are missing and were filled in."""
    used = share(effect.replicates, effect.declared)
    return f"{used}, {count(effect.filled, 'run')} filled in" if effect.filled else used


def tone(verdict: Verdict) -> Tone:
    """How a verdict is drawn."""
    match verdict:
        case Matters(direction):
            return direction
        case Differs("helps"):
            return "perhaps_helps"
        case Differs():
            return "perhaps_hurts"
        case Opposed():
            return "opposed"
        case SmallOnAverage():
            return "average"
        case DoesNotMatter():
            return "equal"
        case Undecided():
            return "undecided"


def verdict(found: Verdict) -> Cell:
    """A verdict as a cell."""
    return Cell(kind(found), tone=tone(found))


def kind(found: Verdict) -> str:
    """A verdict in a few words."""
    match found:
        case Matters(direction):
            return f"matters: {direction}"
        case Differs(direction):
            return f"{direction}, perhaps too little to matter"
        case Opposed(helps, hurts):
            return f"helps on {listed(helps)}, hurts on {listed(hurts)}"
        case SmallOnAverage():
            return "does not matter on average"
        case DoesNotMatter():
            return "does not matter"
        case Undecided():
            return "undecided"


def untested(judged: Judged) -> bool:
    """Whether it is undecided for want of an interval, so that no number of replicates can be named."""
    return isinstance(judged.verdict, Undecided) and bool(judged.effect.why) and judged.verdict.why == judged.effect.why


def more(judged: Judged) -> str:
    """How many more replicates a verdict takes; of an effect without an interval, how many an interval takes."""
    match judged.verdict:
        case Undecided(more=number) if untested(judged):
            return ALONE if number is None else f"{number} for an interval"
        case Undecided(more=None) | Differs(more=None):
            return "no number would do"
        case Undecided(more=number) | Differs(more=number):
            return str(number)
        case _:
            return "decided"


def told(judged: Judged) -> str:
    """A verdict in a line: ``matters: helps``, ``undecided: 7 more replicates``, ``undecided: no interval``."""
    match judged.verdict:
        case Undecided() if untested(judged):
            return f"{kind(judged.verdict)}: {ALONE}"
        case Undecided(more=None) | Differs(more=None):
            return f"{kind(judged.verdict)}: no number of replicates would do"
        case Undecided(more=int(number)) | Differs(more=int(number)):
            return f"{kind(judged.verdict)}: {count(number, 'more replicate')}"
        case _:
            return kind(judged.verdict)


def formula(contrast: Contrast) -> tuple[str, str]:
    """The arms of a contrast with positive and with negative weight, each with its weight where weights differ."""
    sides = []
    for sign in (1.0, -1.0):
        arms = {arm: abs(weight) for arm, weight in contrast.weights.items() if weight * sign > 0}
        if len({round(weight, 9) for weight in arms.values()}) > 1:
            sides.append(" + ".join(f"{weight:.3g} x ({arm})" for arm, weight in arms.items()))
        elif len(arms) > 1:
            sides.append("mean of " + listed(tuple(f"({arm})" for arm in arms)))
        else:
            sides.append("".join(arms))
    return sides[0], sides[1]
