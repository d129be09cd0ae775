"""Arms on their own: the mean score of each with its interval, and whether the best one stands apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.inference.cells import Cells, Floats, Target
from harness.inference.crossed import Parts, crossed, per_patient
from harness.inference.effects import FEWEST


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
    places: list[Target | None] = [None, *cells.targets]
    return tuple(_mean(cells, a, place, level) for a in range(len(cells.arms)) for place in places)


def best_arms(cells: Cells) -> tuple[Best, ...]:
    """The best arm on all targets together, then on each target; none where fewer than two arms have a score."""
    found = (_best(cells, place) for place in (None, *cells.targets))
    return tuple(best for best in found if best is not None)


def _mean(cells: Cells, arm: int, place: Target | None, level: float) -> ArmMean:
    targets = cells.targets if place is None else (place,)
    values, kept, images = _values(cells, np.eye(len(cells.arms))[arm], targets)
    count = int(kept.sum())
    name = place.name if place is not None else None
    patients = sum(value.shape[1] for value in values)
    counts = {"replicates": count, "declared": len(kept), "images": images, "patients": patients}
    if not count or not all(value.size for value in values):
        return ArmMean(cells.arms[arm], name, math.nan, math.nan, math.nan, **counts)
    if count < FEWEST or min(value.shape[1] for value in values) < 2:
        mean = float(np.mean([value.mean() for value in values]))
        return ArmMean(cells.arms[arm], name, mean, math.nan, math.nan, **counts)
    parts = _parts(cells, values, kept)
    margin = float(parts.margin(level))
    mean = float(parts.estimate)
    return ArmMean(cells.arms[arm], name, mean, mean - margin, mean + margin, **counts)


def _best(cells: Cells, place: Target | None) -> Best | None:
    targets = cells.targets if place is None else (place,)
    means = np.array([_mean(cells, a, place, 0.95).mean for a in range(len(cells.arms))])
    order = [int(a) for a in np.argsort(-means, kind="stable") if np.isfinite(means[a])]
    if len(order) < 2:
        return None
    first = order[0]
    worst = max((_p(cells, first, other, targets) for other in order[1:]), key=lambda p: 2.0 if math.isnan(p) else p)
    p = min(1.0, worst * (len(order) - 1)) if not math.isnan(worst) else math.nan
    name = place.name if place is not None else None
    return Best(name, cells.arms[first], cells.arms[order[1]], p)


def _p(cells: Cells, one: int, other: int, targets: tuple[Target, ...]) -> float:
    weights = np.zeros(len(cells.arms))
    weights[one], weights[other] = 1.0, -1.0
    values, kept, _ = _values(cells, weights, targets)
    if int(kept.sum()) < FEWEST or min(value.shape[1] for value in values) < 2:
        return math.nan
    return float(_parts(cells, values, kept).p())


def _parts(cells: Cells, values: list[Floats], kept: npt.NDArray[np.bool_]) -> Parts:
    pairs = [pair for pair, used in zip(cells.replicates, kept, strict=True) if used]
    return crossed(values, pairs)


def _values(
    cells: Cells, weights: Floats, targets: tuple[Target, ...]
) -> tuple[list[Floats], npt.NDArray[np.bool_], int]:
    """Per target (replicates, patients): the weighted arms where all of them have scores; the replicates; images."""
    arms = np.flatnonzero(weights)
    kept: npt.NDArray[np.bool_] = np.asarray(cells.finished[arms].all(axis=0))
    for target in targets:
        kept &= np.isfinite(target.scores[arms]).any(axis=2).all(axis=0)
    values, images = [], 0
    for target in targets:
        scores = np.einsum("a,ari->ri", weights[arms], target.scores[arms][:, kept])
        defined = np.isfinite(scores).all(axis=0) & bool(kept.any())
        images += int(defined.sum())
        patients = target.patients[defined]
        values.append(scores[:, defined] @ per_patient(patients) if defined.any() else np.empty((int(kept.sum()), 0)))
    return values, kept, images
