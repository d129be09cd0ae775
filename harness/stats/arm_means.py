"""Marginal means: the mean score of each arm with its interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.stats.complete_cases import complete_cases
from harness.stats.scores import Cells


@dataclass(frozen=True)
class ArmMean:
    """The mean score of ``arm`` on ``target`` (None: all targets, each with equal weight), in units of the metric.

    ``low`` and ``high``: interval of coverage 95 % over replicates and patients, by the method of every contrast; NaN
    where there is none, and ``why`` says why. ``replicates`` of ``declared`` were used, ``images`` of ``patients``
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
    why: str = ""


def arm_means(cells: Cells, level: float = 0.95) -> tuple[ArmMean, ...]:
    """Every arm on all targets together, then on each target."""
    places = (None, *(target.name for target in cells.targets))
    return tuple(_mean(cells, a, place, level) for a in range(len(cells.arms)) for place in places)


def _mean(cells: Cells, arm: int, place: str | None, level: float) -> ArmMean:
    used = complete_cases(cells, np.eye(len(cells.arms))[arm], place)
    mean = used.estimate()
    margin = math.nan if used.why else float(used.parts().margin(level))
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
        why=used.why,
    )
