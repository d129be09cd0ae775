"""Arms on their own: the mean score of each with its interval, and whether the best one stands apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.inference.cells import Cells
from harness.inference.crossed import crossed
from harness.inference.entering import entering


@dataclass(frozen=True)
class ArmMean:
    """The mean score of ``arm`` on ``target`` (None: all targets, each with equal weight), in units of the metric.

    ``low`` and ``high``: interval of coverage 95 % over replicates and patients, by the method of every contrast; NaN
    below three replicates or two patients. ``replicates`` of ``declared`` were used, ``images`` of ``patients``
    patients. Arms are compared by their paired differences, never by whether these intervals overlap.
    """

    arm: str
    target: str | None
    mean: float
    low: float
    high: float
    replicates: int
    declared: int
    images: int
    patients: int


@dataclass(frozen=True)
class Best:
    """The arm with the highest mean on ``target``, and the one behind it.

    ``p``: that another arm is as good: the largest p of its differences to all others, times their number, since the
    data also chose it. NaN where a difference has no interval. ``apart``: whether that is at most 0.05.
    """

    target: str | None
    arm: str
    runner_up: str
    p: float

    @property
    def apart(self) -> bool:
        """Whether the arm may be called the best."""
        return self.p <= 0.05


def arm_means(cells: Cells, level: float = 0.95) -> tuple[ArmMean, ...]:
    """Every arm on all targets together, then on each target."""
    return tuple(_mean(cells, a, place, level) for a in range(len(cells.arms)) for place in _places(cells))


def best_arms(cells: Cells) -> tuple[Best, ...]:
    """The best arm on all targets together, then on each target; none where fewer than two arms have a score."""
    found = (_best(cells, place) for place in _places(cells))
    return tuple(best for best in found if best is not None)


def _places(cells: Cells) -> tuple[str | None, ...]:
    return (None, *(target.name for target in cells.targets))


def _mean(cells: Cells, arm: int, place: str | None, level: float) -> ArmMean:
    used = entering(cells, np.eye(len(cells.arms))[arm], place)
    mean = used.estimate()
    margin = math.nan if used.why else float(crossed(used.values, used.pairs, used.shares).margin(level))
    return ArmMean(
        arm=cells.arms[arm],
        target=place,
        mean=mean,
        low=mean - margin,
        high=mean + margin,
        replicates=len(used.pairs),
        declared=len(cells.replicates),
        images=used.images,
        patients=sum(value.shape[1] for value in used.values),
    )


def _best(cells: Cells, place: str | None) -> Best | None:
    means = np.array([_mean(cells, a, place, 0.95).mean for a in range(len(cells.arms))])
    order = [int(a) for a in np.argsort(-means, kind="stable") if np.isfinite(means[a])]
    if len(order) < 2:
        return None
    first = order[0]
    worst = max((_p(cells, first, other, place) for other in order[1:]), key=lambda p: 2.0 if math.isnan(p) else p)
    p = min(1.0, worst * (len(order) - 1)) if not math.isnan(worst) else math.nan
    return Best(place, cells.arms[first], cells.arms[order[1]], p)


def _p(cells: Cells, one: int, other: int, place: str | None) -> float:
    weights = np.zeros(len(cells.arms))
    weights[one], weights[other] = 1.0, -1.0
    used = entering(cells, weights, place)
    return math.nan if used.why else float(crossed(used.values, used.pairs, used.shares).p())
