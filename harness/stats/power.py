"""Statistical power: the chance of a verdict for an effect, its variances and the replicates of a study.

Which replicates there would be decides it, not only how many: those that share a fold (or a seed) vary together, so
that with folds taken in turn the degrees of freedom end at the number of folds less one, and what the effect varies by
from fold to fold is averaged over no more of them. So every function here takes the very `Pair`s, and expects of the
parts of the variance what `crossed_variance.replicate_parts` would estimate on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, stdtrit

from harness.stats.complete_cases import FEWEST
from harness.stats.crossed_variance import Parts, clusters, cr2, weights
from harness.stats.scores import Floats, Pair

GOAL = 0.8
"""The power that "expected" means."""
MOST = 1000
"""Further replicates above which a verdict is out of reach."""

Grown = Callable[[int], Sequence[Pair]]
"""The replicates that a study would use with so many more than it has."""


@dataclass(frozen=True)
class ContrastNoise:
    """The variance components of a contrast.

    ``replicate``: variance of one replicate's contrast, averaged over images and targets, without what ``seed`` and
    ``fold`` add to all replicates that share one; ``residual``: what of it is drawn anew on every image. ``images``:
    variance that no replicate shrinks, with ``df_images`` degrees of freedom.
    """

    replicate: float
    images: float
    df_images: float
    residual: float = 0.0
    seed: float = 0.0
    fold: float = 0.0

    @classmethod
    def of(cls, parts: Parts, pairs: Sequence[Pair]) -> ContrastNoise:
        """As the data of a study of ``pairs`` have it: one estimate, without leading axes.

        Where no two replicates share a fold, all that they vary by is ``replicate``: what a fold adds is confounded
        with what a seed adds, so a forecast that takes folds again is the best case.
        """
        axes, weight = clusters(pairs), weights(pairs)
        shared = {
            name: float(parts.components[name]) / _crowd(axes[name], weight)
            for name in ("seeds", "folds")
            if name in parts.components
        }
        single = float((weight**2).sum())
        return cls(
            replicate=float(parts.components["replicates"]) / single,
            images=float(parts.images()),
            df_images=float(parts.degrees[-1]),
            residual=float(parts.residual) / single,
            seed=shared.get("seeds", 0.0),
            fold=shared.get("folds", 0.0),
        )

    def unshared(self) -> ContrastNoise:
        """The same noise if no two replicates shared a seed or a fold."""
        return ContrastNoise(self.replicate + self.seed + self.fold, self.images, self.df_images, self.residual)


def power(
    effect: float, noise: ContrastNoise, pairs: Sequence[Pair], level: float = 0.05, beyond: float = 0.0
) -> float:
    """The chance that a true ``effect`` is shown to differ from 0, in either direction, at ``level``, or to be larger
    than ``beyond``.

    ``pairs``: the replicates of the study. ``level``: that of the one test, so alpha / m for a promise that holds in a
    family of m (Holm does no worse). Averages the normal probability over the quantiles of the variance estimates,
    which the margin is made of.
    """
    margin, se = _margins(noise, pairs, level)
    if se == 0.0:
        return float(abs(effect) > beyond)
    return float((ndtr((effect - beyond - margin) / se) + ndtr((-effect - beyond - margin) / se)).mean())


def exaggeration(
    effect: float, noise: ContrastNoise, pairs: Sequence[Pair], level: float = 0.05, beyond: float = 0.0
) -> float:
    """The factor by which studies that show a true ``effect`` (`power`) overstate its size on average.

    The type M error of Gelman & Carlin (2014), by the formula of a truncated normal mean.

    1 where every study finds it; larger the less power there is. Infinite for an effect of 0. Another study, which does
    not select, does not overstate.
    """
    margin, se = _margins(noise, pairs, level)
    if se == 0.0:
        return 1.0
    size, least = abs(effect), beyond + margin
    above, below = (size - least) / se, (-size - least) / se
    significant = ndtr(above) + ndtr(below)
    total = size * (ndtr(above) - ndtr(below)) + se * (_density(above) + _density(below))
    return float(total.mean() / (significant.mean() * size)) if size else math.inf


def _density(z: Floats) -> Floats:
    return np.asarray(np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi), dtype=np.float64)


def equivalence_power(
    effect: float, noise: ContrastNoise, pairs: Sequence[Pair], smallest: float, level: float = 0.05
) -> float:
    """The chance that a true ``effect`` is shown to be within +-``smallest`` at ``level`` by two one-sided tests."""
    margin, se = _margins(noise, pairs, 2.0 * level)
    if se == 0.0:
        return float(abs(effect) < smallest)
    inside = ndtr((smallest - margin - effect) / se) - ndtr((margin - smallest - effect) / se)
    return float(np.maximum(inside, 0.0).mean())


def decided_by(
    effect: float,
    noise: ContrastNoise,
    pairs: Sequence[Pair],
    level: float,
    smallest: float | None = None,
    beyond: float = 0.0,
) -> float:
    """The better of the two chances: of a difference that is larger than ``beyond``, and, where ``smallest`` is given,
    of equivalence; 0 at level 0 or with fewer replicates than an interval takes.
    """
    if level <= 0.0 or len(pairs) < FEWEST:
        return 0.0
    same = 0.0 if smallest is None else equivalence_power(effect, noise, pairs, smallest, level)
    return max(power(effect, noise, pairs, level, beyond), same)


def minimum_detectable(noise: ContrastNoise, pairs: Sequence[Pair], level: float = 0.05, goal: float = GOAL) -> float:
    """The minimum detectable effect: shown with probability ``goal``; 0 where nothing varies."""
    margin, se = _margins(noise, pairs, level)
    if se == 0.0:
        return 0.0
    highest = float(margin.max()) + 10.0 * se
    return float(brentq(lambda effect: power(effect, noise, pairs, level) - goal, 0.0, highest))


def detectable(noise: ContrastNoise, pairs: Sequence[Pair], level: float = 0.05, goal: float = GOAL) -> float:
    """The effect that studies of ``pairs`` find with probability ``goal``, where one of them estimated ``noise``.

    What `minimum_detectable` says of variances that are known is too little for estimated ones: of the effects so
    named by studies of three replicates, studies like them find 61 %. So the power is averaged over what the true
    variances may be, each the estimate times df / chi2(df), as if nothing were known of it before; for one part of the
    variance that makes the promise hold on average over the studies that name an effect. 0 where nothing varies.
    """
    if _expected(noise, pairs)[1] + noise.images == 0.0:
        return 0.0
    drawn = [_margins(each, pairs, level, _COARSE) for each in _possible(noise, pairs)]
    margins, se = np.stack([margin.ravel() for margin, _ in drawn]), np.array([[each] for _, each in drawn])

    def short(effect: float) -> float:
        return float((ndtr((effect - margins) / se) + ndtr((-effect - margins) / se)).mean()) - goal

    return float(brentq(short, 0.0, float((margins + 10.0 * se).max())))


def _possible(noise: ContrastNoise, pairs: Sequence[Pair]) -> list[ContrastNoise]:
    """What the true noise may be, in parts of equal probability, where ``noise`` was estimated from ``pairs``.

    The replicates' parts are taken to be off together, by the degrees of freedom of the one that is known worst; the
    images' by their mean square, of which an estimate of 0 is what is left.
    """
    free, single = min(df for _, df, _ in _expected(noise, pairs)[0]), float((weights(pairs) ** 2).sum())
    few, many = 1.0 / _quantiles(free, 24), 1.0 / _quantiles(noise.df_images, 6)
    square = noise.images + noise.residual * single
    return [
        ContrastNoise(
            replicate=float(by) * noise.replicate,
            images=max(0.0, float(scale) * square - noise.residual * single),
            df_images=noise.df_images,
            residual=min(noise.residual, float(by) * noise.replicate),
            seed=float(by) * noise.seed,
            fold=float(by) * noise.fold,
        )
        for by in few
        for scale in many
    ]


def more_needed(
    effect: float,
    noise: ContrastNoise,
    grown: Grown,
    level: Callable[[int], float],
    smallest: float | None = None,
    beyond: float = 0.0,
    goal: float = GOAL,
) -> int | None:
    """The fewest further replicates (one or more) with which a verdict is expected: of a difference that is larger than
    ``beyond``, or, where ``smallest`` is given, of equivalence. None if ``MOST`` do not suffice, be it that images or
    folds leave too much.

    ``level``: of the one test by the number of further replicates, 0 where none is made.
    """

    def expected(more: int) -> bool:
        return decided_by(effect, noise, grown(more), level(more), smallest, beyond) >= goal

    if not expected(MOST):
        return None
    # Not by bisection: folds that are taken unevenly and looks of different levels make power fall now and then.
    return next(more for more in range(1, MOST + 1) if expected(more))


_FINE = ((200, 25), (60, 60, 25))
_COARSE = ((32, 6), (14, 14, 6))
"""Quantiles of each part of a variance, where there are two parts and where there are three."""


def _margins(
    noise: ContrastNoise, pairs: Sequence[Pair], level: float, quantiles: Sequence[Sequence[int]] = _FINE
) -> tuple[Floats, float]:
    """The margins of a two-sided test over the quantiles of the variance estimates, and the true standard error."""
    parts, variance = _expected(noise, pairs)
    residual, free = noise.residual * float((weights(pairs) ** 2).sum()), min(df for _, df, _ in parts)
    handful = noise.df_images < free
    if handful:
        parts[-1] = (*parts[-1][:2], parts[-1][2] + residual)
    parts.append((noise.images + residual, noise.df_images, 0.0 if handful else residual))
    counts = quantiles[len(parts) - 2]
    squares: Floats = np.zeros((1,) * len(parts))
    for axis, ((size, df, taken), count) in enumerate(zip(parts, counts, strict=True)):
        drawn = np.maximum(0.0, size * _quantiles(df, count) - taken) * float(stdtrit(df, level / 2.0)) ** 2
        squares = squares + drawn.reshape([-1 if k == axis else 1 for k in range(len(parts))])
    return np.sqrt(squares), float(np.sqrt(variance + noise.images))


def _expected(noise: ContrastNoise, pairs: Sequence[Pair]) -> tuple[list[tuple[float, float, float]], float]:
    """Of each of the replicates' parts: its mean with nothing taken off, its degrees of freedom, what is taken off;
    and the variance that the replicates truly give the estimate. As `crossed_variance.replicate_parts` has them.
    """
    axes, weight, shared = clusters(pairs), weights(pairs), {"seeds": noise.seed, "folds": noise.fold}
    unshared = noise.replicate + sum(variance for name, variance in shared.items() if name not in axes)
    single = unshared * float((weight**2).sum())
    variance = single + sum(shared[name] * _crowd(codes, weight) for name, codes in axes.items() if name in shared)
    levels = {name: int(codes.max()) + 1 for name, codes in axes.items()}
    if len(axes) == 2 and levels["seeds"] * levels["folds"] == len(pairs):
        few, many = sorted(axes, key=lambda name: levels[name])
        each = {name: shared[name] / levels[name] + single for name in axes}
        return [(each[few], levels[few] - 1.0, 0.0), (each[many], levels[many] - 1.0, single)], variance
    # Every cluster's part is estimated without bias: what its mean varies by, at its share.
    parts = [
        (
            shared.get(name, 0.0) * _crowd(codes, weight) + single,
            cr2(np.bincount(codes, weight).astype(np.float64))[1],
            0.0,
        )
        for name, codes in axes.items()
    ]
    return parts, variance


def _crowd(codes: npt.NDArray[np.intp], weight: Floats) -> float:
    """The sum of the clusters' squared shares: what the variance of one cluster's effect is worth in the mean."""
    return float((np.bincount(codes, weight) ** 2).sum())


def _quantiles(df: float, count: int) -> Floats:
    """Quantiles of a variance estimate with ``df`` degrees of freedom, relative to the truth."""
    return np.asarray(chdtri(df, (np.arange(count) + 0.5) / count) / df, dtype=np.float64)
