"""How numbers are written in an ablation's report: effects with their sign, scores, intervals, counts, verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable

from harness.reports.document import Cell, Tone
from harness.stats.arm_means import ArmMean
from harness.stats.effects import Effect
from harness.stats.mixed_model import MixedEffect
from harness.stats.ranks import Rank
from harness.stats.verdicts import (
    Differs,
    DoesNotMatter,
    Judged,
    Matters,
    Opposed,
    SmallOnAverage,
    Undecided,
    Verdict,
    phrase,
)
from harness.text import count, p_value
from sam2lora.intervals import with_interval

NONE = "n/a"
"""Stands where there is no number."""
NO_INTERVAL = "no interval"
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


def score_with_interval(mean: float, low: float, high: float) -> str:
    """A score with its interval, or that it has none."""
    return _with_interval(score, mean, low, high)


def effect_with_interval(estimate: float, low: float, high: float) -> str:
    """An effect with its interval, or that it has none."""
    return _with_interval(effect, estimate, low, high)


def estimate(one: Effect | MixedEffect) -> str:
    """An effect with its interval."""
    return effect_with_interval(one.estimate, one.low, one.high)


def mean(one: ArmMean) -> str:
    """The mean of an arm with its interval."""
    return score_with_interval(one.mean, one.low, one.high)


def images(effect: Effect) -> str:
    """``18 of 20`` images, or ``20`` where all have a score."""
    return share(effect.images, effect.images + effect.undefined)


def _with_interval(written: Callable[[float], str], value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return NONE
    if math.isnan(low):
        return f"{written(value)} ({NO_INTERVAL})"
    return with_interval(written, value, low, high)


def rank(one: Rank | None) -> str:
    """A rank with those that are open, ``2 [1, 4]``."""
    return NONE if one is None else f"{one.place:g} [{one.best}, {one.worst}]"


def probability(value: float) -> str:
    """A p-value."""
    return NONE if math.isnan(value) else p_value(value)


def percent(value: float, decimals: int = 0) -> str:
    """A share in percent."""
    return NONE if math.isnan(value) else f"{value:.{decimals}%}".replace("%", " %")


def share(used: int, declared: int) -> str:
    """``4 of 5``, or ``5`` where nothing is missing."""
    return str(used) if used == declared else f"{used} of {declared}"


def replicates(effect: Effect) -> str:
    """``4 of 5``, and how many of their runs are missing and were filled in."""
    used = share(effect.replicates, effect.declared)
    return f"{used}, {count(effect.filled, 'run')} imputed" if effect.filled else used


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


def verdict_cell(verdict: Verdict) -> Cell:
    """A verdict as a cell."""
    return Cell(phrase(verdict), tone=tone(verdict))


def untested(judged: Judged) -> bool:
    """Whether it is undecided for want of an interval, so that no number of replicates can be named."""
    return isinstance(judged.verdict, Undecided) and bool(judged.effect.why) and judged.verdict.why == judged.effect.why


def replicates_needed(judged: Judged) -> str:
    """How many more replicates a verdict takes; of an effect without an interval, how many an interval takes."""
    match judged.verdict:
        case Undecided(more=number) if untested(judged):
            return NO_INTERVAL if number is None else f"{number} for an interval"
        case Undecided(more=None) | Differs(more=None):
            return "no number would do"
        case Undecided(more=number) | Differs(more=number):
            return str(number)
        case _:
            return "decided"


def verdict_line(judged: Judged) -> str:
    """A verdict in a line: ``matters: helps``, ``undecided: 7 more replicates``, ``undecided: no interval``."""
    match judged.verdict:
        case Undecided() if untested(judged):
            return f"{phrase(judged.verdict)}: {NO_INTERVAL}"
        case Undecided(more=None) | Differs(more=None):
            return f"{phrase(judged.verdict)}: no number of replicates would do"
        case Undecided(more=int(number)) | Differs(more=int(number)):
            return f"{phrase(judged.verdict)}: {count(number, 'more replicate')}"
        case _:
            return phrase(judged.verdict)
