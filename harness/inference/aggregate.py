"""Arms in one number each: the interquartile mean over replicates and data sets, and the probability of improvement.

Both are robust aggregates of Agarwal et al. 2021 (*Deep RL at the edge of the statistical precipice*): the
interquartile mean drops the lowest and the highest quarter of an arm's (replicate, data set) scores; the probability of
improvement is how often a training run of the arm beats a run of the base on the same data set, over all pairs of
replicates, ties counting half, averaged over data sets. Bouthillier et al. 2021 read 0.75 or more as a meaningful
improvement; no verdict here rests on that.

Their intervals are bootstrap intervals over replicates, drawn whole, because a replicate is one model that was judged
on all data sets, and over the patients of each data set. Percentiles are taken further out than nominal by Hesterberg's
(2015) expansion for the number of replicates, since plain ones are too narrow for a handful.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

from harness.inference.cells import Cells, Floats, Target

RESAMPLES = 1000
LEAST = 3
# Numbers that are held at once while replicates are drawn.
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Aggregate:
    """An arm's interquartile mean, and its probability of improvement over the base, each with its interval.

    Taken over the ``replicates`` of ``declared`` that the arm and the base both completed, on the images that are
    defined in all of these: ``images`` of ``datasets`` data sets. ``better`` is NaN for the base itself. Intervals are
    NaN below 3 replicates, everything is NaN where nothing is left.
    """

    arm: str
    iqm: float
    iqm_low: float
    iqm_high: float
    better: float
    better_low: float
    better_high: float
    replicates: int
    declared: int
    datasets: int
    images: int


def aggregates(
    cells: Cells, base: str, rng: np.random.Generator, level: float = 0.95, resamples: int = RESAMPLES
) -> tuple[Aggregate, ...]:
    """Every arm's `Aggregate`, in the order of ``cells.arms``. Raises ``ValueError`` if ``base`` is not among them."""
    if base not in cells.arms:
        raise ValueError(f"The base must be an arm of {', '.join(cells.arms)}, but is {base!r}.")
    against, complete = cells.arms.index(base), cells.complete()
    return tuple(_aggregate(cells, complete, arm, against, rng, level, resamples) for arm in range(len(cells.arms)))


def interquartile_mean(scores: Floats) -> Floats:
    """The mean over the last axis without its lowest and highest quarter, the count of each rounded down."""
    cut = scores.shape[-1] // 4
    inner = np.sort(scores, axis=-1)[..., cut : scores.shape[-1] - cut]
    return np.asarray(inner.mean(axis=-1), dtype=np.float64)


def improvement(arm: Floats, base: Floats) -> Floats:
    """How often ``arm (..., replicates, data sets)`` beats ``base`` (the same shape), over all pairs, ties half: (...).

    The Mann-Whitney statistic over its maximum, from the ranks of both together.
    """
    from scipy.stats import rankdata  # loads slowly, and a report without aggregates does not need it

    m = arm.shape[-2]
    ranks = rankdata(np.concatenate([arm, base], axis=-2), axis=-2)
    wins = (ranks[..., :m, :].sum(axis=-2) - m * (m + 1) / 2) / m**2
    return np.asarray(wins.mean(axis=-1), dtype=np.float64)


def _aggregate(
    cells: Cells,
    complete: npt.NDArray[np.bool_],
    arm: int,
    base: int,
    rng: np.random.Generator,
    level: float,
    resamples: int,
) -> Aggregate:
    pair = [arm, base]
    both: npt.NDArray[np.bool_] = np.logical_and.reduce(complete[pair])
    sets = [_common(target, pair, both) for target in cells.targets] if both.any() else []
    sets = [(scores, patients) for scores, patients in sets if len(patients)]
    replicates = int(both.sum()) if sets else 0
    point, low, high = np.full((3, 2), math.nan)
    if sets:
        point = _both(np.stack([scores.mean(axis=2) for scores, _ in sets], axis=-1))
    if replicates >= LEAST:
        drawn = np.concatenate([_both(means) for means in _resampled(sets, replicates, rng, resamples)])
        tail = float(ndtr(math.sqrt(replicates / (replicates - 1)) * stdtrit(replicates - 1, (1 - level) / 2)))
        low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
        low, high = np.minimum(low, point), np.maximum(high, point)
    against = [math.nan] * 3 if arm == base else [float(value[1]) for value in (point, low, high)]
    return Aggregate(
        arm=cells.arms[arm],
        iqm=float(point[0]),
        iqm_low=float(low[0]),
        iqm_high=float(high[0]),
        better=against[0],
        better_low=against[1],
        better_high=against[2],
        replicates=replicates,
        declared=len(both),
        datasets=len(sets),
        images=sum(len(patients) for _, patients in sets),
    )


def _common(target: Target, pair: list[int], both: npt.NDArray[np.bool_]) -> tuple[Floats, npt.NDArray[np.intp]]:
    """Scores (2, replicates, images) on the images that are defined in all of these, and each image's patient."""
    scores = target.scores[pair][:, both]
    defined: npt.NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(scores), axis=(0, 1))
    return scores[:, :, defined], np.unique(target.patients[defined], return_inverse=True)[1]


def _both(means: Floats) -> Floats:
    """(..., 2): interquartile mean and probability of improvement of ``means (..., 2, replicates, data sets)``."""
    arm, base = means[..., 0, :, :], means[..., 1, :, :]
    flat = arm.reshape(*arm.shape[:-2], -1)
    return np.stack([interquartile_mean(flat), improvement(arm, base)], axis=-1)


def _resampled(
    sets: list[tuple[Floats, npt.NDArray[np.intp]]], replicates: int, rng: np.random.Generator, resamples: int
) -> Iterator[Floats]:
    """Means (draws, 2, replicates, data sets) over drawn replicates and drawn patients, some draws at a time."""
    at_once = max(1, _AT_ONCE // (2 * replicates * len(sets)))
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn = rng.integers(replicates, size=(size, 1, replicates))
        means = [np.take_along_axis(_patients_drawn(*one, size, rng), drawn, axis=2) for one in sets]
        yield np.stack(means, axis=-1)


def _patients_drawn(scores: Floats, patient: npt.NDArray[np.intp], size: int, rng: np.random.Generator) -> Floats:
    """(draws, 2, replicates): means over the images of patients drawn with replacement, as many as there are."""
    count = int(patient.max()) + 1
    times = rng.multinomial(count, np.full(count, 1 / count), size=size)[:, patient].astype(np.float64)
    sums = times @ scores.reshape(-1, len(patient)).T
    return np.asarray((sums / times.sum(axis=1, keepdims=True)).reshape(size, 2, -1))
