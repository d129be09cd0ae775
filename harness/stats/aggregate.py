"""Robust aggregates of an arm: interquartile mean over replicates and data sets, and probability of improvement.

Both are robust aggregates of Agarwal et al. 2021 (*Deep RL at the edge of the statistical precipice*): the
interquartile mean drops the lowest and the highest quarter of an arm's (replicate, data set) scores; the probability of
improvement is how often a training run of the arm beats a run of the base on the same data set, over all pairs of
replicates, ties counting half, averaged over data sets. Bouthillier et al. 2021 read 0.75 or more as a meaningful
improvement; no verdict here rests on that.

Their intervals are bootstrap intervals over replicates, drawn whole, because a replicate is one model that was tested
on all data sets, and over the patients of each data set. Replicates that share a fold or a seed are drawn by fold and
by seed, patients who are in several data sets once for all. Percentiles are taken further out than nominal by
Hesterberg's (2015) expansion for the number of whatever is fewest, replicates, folds, seeds or patients of a data set,
since plain ones are too narrow for a handful. That does not help fewer than five replicates: all runs of an arm beat
all those of an equal one in 10 % of studies of three and in 3 % of four, and no resampling sees it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

from harness.stats.complete_cases import matched, sharing
from harness.stats.crossed_variance import clusters
from harness.stats.scores import Cells, Floats, Target

RESAMPLES = 1000
LEAST = 5
"""Replicates, folds or seeds where they share these, and patients of a data set, below which there is no interval."""
FEW = 40
"""Replicates up to which comparing all pairs is faster than sorting them."""
# Numbers that are held at once while replicates are drawn.
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Aggregate:
    """An arm's interquartile mean, and its probability of improvement over the base, each with its interval.

    Taken over the ``replicates`` of ``declared`` that the arm and the base both completed, on the images that are
    defined in all of these: ``images`` of ``datasets`` data sets. ``better`` is NaN for the base itself. Intervals are
    NaN where fewer than `LEAST` replicates (folds or seeds, where they share these) or patients of a data set are left,
    where data sets share patients whose names do not tell which, and for a grid of seeds and folds with holes;
    everything is NaN where nothing is left.
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
    times = _patients_drawn(cells.targets, resamples, rng)
    return tuple(_aggregate(cells, complete, times, arm, against, rng, level) for arm in range(len(cells.arms)))


def interquartile_mean(scores: Floats) -> Floats:
    """The mean over the last axis without its lowest and highest quarter, the count of each rounded down."""
    cut = scores.shape[-1] // 4
    inner = np.sort(scores, axis=-1)[..., cut : scores.shape[-1] - cut]
    return np.asarray(inner.mean(axis=-1), dtype=np.float64)


def improvement(arm: Floats, base: Floats) -> Floats:
    """How often ``arm (..., replicates, data sets)`` beats ``base`` (the same shape), over all pairs, ties half: (...).

    The Mann-Whitney statistic over its maximum: pair by pair for few replicates, by sorting for many.
    """
    m = arm.shape[-2]
    if m <= FEW:
        pairs = (np.sign(arm - base[..., s : s + 1, :]).mean(axis=(-2, -1)) for s in range(m))
        return np.asarray(0.5 + sum(pairs) / (2 * m), dtype=np.float64)
    arms, bases = (np.sort(np.moveaxis(one, -2, -1).reshape(-1, m), axis=-1) for one in (arm, base))
    below_or_tied = [
        np.searchsorted(losers, winners, "left").sum() + np.searchsorted(losers, winners, "right").sum()
        for winners, losers in zip(arms, bases, strict=True)
    ]
    wins = np.reshape(below_or_tied, (*arm.shape[:-2], arm.shape[-1])) / (2 * m * m)
    return np.asarray(wins.mean(axis=-1), dtype=np.float64)


def _aggregate(
    cells: Cells,
    complete: npt.NDArray[np.bool_],
    times: list[Floats],
    arm: int,
    base: int,
    rng: np.random.Generator,
    level: float,
) -> Aggregate:
    pair = [arm, base]
    both: npt.NDArray[np.bool_] = np.logical_and.reduce(complete[pair])
    common = [_common(target, often, pair, both) for target, often in zip(cells.targets, times, strict=True)]
    sets = [(scores, often) for scores, often, _ in common if scores.size]
    fewest = min((patients for scores, _, patients in common if scores.size), default=0)
    replicates = int(both.sum()) if sets else 0
    point, low, high = np.full((3, 2), math.nan)
    if sets:
        point = _both(np.stack([scores.mean(axis=2) for scores, _ in sets], axis=-1))
    axes = clusters([cells.replicates[r] for r in np.flatnonzero(both)]) if replicates else {}
    drawn_of = [int(codes.max()) + 1 for codes in axes.values()]
    few = min([fewest, *drawn_of])
    whole = len(axes) == 1 or math.prod(drawn_of) == replicates
    if few >= LEAST and whole and all(map(matched, sharing(cells.targets))):
        drawn = np.concatenate([_both(means) for means in _resampled(sets, list(axes.values()), rng)])
        tail = float(ndtr(math.sqrt(few / (few - 1)) * stdtrit(few - 1, (1 - level) / 2)))
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
        images=sum(scores.shape[2] for scores, _ in sets),
    )


def _common(target: Target, times: Floats, pair: list[int], both: npt.NDArray[np.bool_]) -> tuple[Floats, Floats, int]:
    """Scores (2, replicates, images), draws (draws, images) and patients, of what is defined in all of these."""
    scores = target.scores[pair][:, both]
    defined: npt.NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(scores), axis=(0, 1))
    return scores[:, :, defined], times[:, defined], len(np.unique(target.patients[defined]))


def _both(means: Floats) -> Floats:
    """(..., 2): interquartile mean and probability of improvement of ``means (..., 2, replicates, data sets)``."""
    arm, base = means[..., 0, :, :], means[..., 1, :, :]
    flat = arm.reshape(*arm.shape[:-2], -1)
    return np.stack([interquartile_mean(flat), improvement(arm, base)], axis=-1)


def _resampled(
    sets: list[tuple[Floats, Floats]], axes: list[npt.NDArray[np.intp]], rng: np.random.Generator
) -> Iterator[Floats]:
    """Means (draws, 2, replicates, data sets) over drawn replicates and drawn patients, some draws at a time."""
    replicates = len(axes[0])
    counts = [times.sum(axis=1) for _, times in sets]
    # A draw that has none of the images that are defined in these arms is no draw.
    drawn = np.flatnonzero(np.logical_and.reduce([count > 0 for count in counts]))
    at_once = max(1, _AT_ONCE // (2 * replicates * len(sets)))
    for some in np.split(drawn, range(at_once, len(drawn), at_once)):
        chosen = _replicates_drawn(axes, len(some), rng)[:, None]
        yield np.stack(
            [
                np.take_along_axis(_means(scores, times[some], count[some]), chosen, axis=2)
                for (scores, times), count in zip(sets, counts, strict=True)
            ],
            axis=-1,
        )


def _replicates_drawn(axes: list[npt.NDArray[np.intp]], draws: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """(draws, replicates): a replicate in the place of each, whose seeds and folds (``clusters``) are drawn.

    Along one axis the k-th replicate of a cluster becomes the k-th of the cluster drawn for it, counted round where
    that has fewer; on a full grid it becomes the one of the drawn seed and the drawn fold.
    """
    drawn = [rng.integers(int(codes.max()) + 1, size=(draws, int(codes.max()) + 1))[:, codes] for codes in axes]
    if len(axes) == 1:
        (codes,) = axes
        size = np.bincount(codes)
        members = np.argsort(codes, kind="stable")
        place = np.empty_like(members)
        place[members] = np.arange(len(codes)) - (np.cumsum(size) - size)[codes[members]]
        begun = (np.cumsum(size) - size)[drawn[0]]
        chosen: npt.NDArray[np.intp] = members[begun + place % size[drawn[0]]]
        return chosen
    at = np.empty([int(codes.max()) + 1 for codes in axes], dtype=np.intp)
    at[tuple(axes)] = np.arange(len(axes[0]))
    on_grid: npt.NDArray[np.intp] = at[tuple(drawn)]
    return on_grid


def _means(scores: Floats, times: Floats, count: Floats) -> Floats:
    """(draws, 2, replicates): means of ``scores (2, replicates, images)``, an image taken ``times (draws, images)``."""
    sums = times @ scores.reshape(-1, scores.shape[2]).T
    return np.asarray((sums / count[:, None]).reshape(len(times), *scores.shape[:2]))


def _patients_drawn(targets: Sequence[Target], resamples: int, rng: np.random.Generator) -> list[Floats]:
    """Per target (resamples, images): how often each image is taken when patients are drawn, as many as there are.

    Targets that share patients draw them together, by name.
    """
    drawn: dict[str, Floats] = {}
    for together in sharing(targets):
        names, patient = np.unique(np.concatenate([one.patients for one in together]), return_inverse=True)
        often = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
        ends = np.cumsum([len(one.patients) for one in together])[:-1]
        for one, own in zip(together, np.split(patient, ends), strict=True):
            drawn[one.name] = np.asarray(often[:, own], dtype=np.float64)
    return [drawn[target.name] for target in targets]
