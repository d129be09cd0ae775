"""Variance components of the scores of an ablation: training seed, fold, data set, image, arm, and residual.

A score is y[a, r, t, i] = mean + arm a + replicate r + data set t + image i of t + their interactions, all taken as
random and crossed but for images, which lie in data sets. The variances are estimated by the method of moments: the
mean squares of the analysis of variance are set equal to their expectations (Searle, Casella & McCulloch 1992), which
needs no iteration and no normal scores, and takes seconds for millions of scores. Two tables are analysed: arms by
replicates by data sets of means over images, and within each data set arms by replicates by images.

The order of the data, the augmentation draws and the initial adapter are all drawn from the seed, so they are part of
what is called ``seed``: one number for all that another seed would change. Where no two replicates share a seed or a
fold, the two are confounded, and the row says ``seed and fold``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.stats.refusal import Refused
from harness.stats.scores import Cells, Floats

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Part:
    """The variance of scores that one source makes.

    ``variance``: in squared units of the score. It is unbiased, so a source that makes none can come out below 0;
    ``share``: of the sum of all parts, with those below 0 taken as 0. ``n``: levels of the source.
    """

    source: str
    variance: float
    share: float
    n: int


@dataclass(frozen=True)
class Variances:
    """The parts and the balanced block of scores that they come from.

    ``parts``: ``arm``; ``seed`` and ``fold`` (or ``seed and fold``); ``arm x replicate``, what a training run of an arm
    adds to both, the noise that more replicates average out of a difference of arms; ``target`` and ``arm x target``,
    absent with one data set; ``image``; ``residual``, all other interactions. ``arms``, ``replicates``, ``targets`` are
    counts of what was used, ``images`` over all data sets, and each ``left_out_`` what had to be left out so that every
    arm has every replicate and every image a score in all of them.
    """

    parts: tuple[Part, ...]
    arms: int
    replicates: int
    targets: int
    images: int
    left_out_arms: tuple[str, ...]
    left_out_replicates: int
    left_out_targets: tuple[str, ...]
    left_out_images: int


def variances(cells: Cells) -> Variances | Refused:
    """The variance components over the largest balanced block, which is built greedily. See `Variances`.

    Refused with fewer than two arms or replicates in common, no data set with two images, or where no score differs.
    Images of one patient
    count as images; that they resemble each other takes about (images of a patient - 1) / images off the image's part.
    """
    arms, replicates = _balanced(cells.complete())
    kept = [_defined(target.scores[np.ix_(arms, replicates)]) for target in cells.targets]
    scores = [one for one in kept if one.shape[2] > 1]
    if arms.sum() < 2 or replicates.sum() < 2 or not scores:
        value = f"{arms.sum()} arms share {replicates.sum()} replicates on {len(scores)} data sets"
        rule = "A split of variance needs two arms that share two replicates and a data set with two images"
        return Refused(rule, value, "let more trials finish")
    if len({float(end) for one in scores for end in (one.min(), one.max())}) == 1:
        return Refused("A split of variance needs scores that vary", "all are equal", "read the means")
    folds = [pair.fold for pair, has in zip(cells.replicates, replicates, strict=True) if has]
    seeds = [pair.seed for pair, has in zip(cells.replicates, replicates, strict=True) if has]
    images = sum(one.shape[2] for one in scores)
    return Variances(
        parts=_parts(scores, seeds, folds),
        arms=int(arms.sum()),
        replicates=int(replicates.sum()),
        targets=len(scores),
        images=images,
        left_out_arms=tuple(arm for arm, has in zip(cells.arms, arms, strict=True) if not has),
        left_out_replicates=int((~replicates).sum()),
        left_out_targets=tuple(t.name for t, one in zip(cells.targets, kept, strict=True) if one.shape[2] < 2),
        left_out_images=sum(len(target.patients) for target in cells.targets) - images,
    )


@dataclass(frozen=True)
class _Layout:
    """Variances of a random three-way layout (a, r, k) and the mean square of r with the noise that it contains."""

    a: float
    r: float
    k: float
    ar: float
    ak: float
    rk: float
    rest: float
    around_r: float


def _parts(scores: list[Floats], seeds: list[int], folds: list[int]) -> tuple[Part, ...]:
    inside = [_layout(one) for one in scores]
    counts = [one.shape[2] for one in scores]
    arms, replicates = scores[0].shape[:2]
    # Variances of image means on a data set: what images add to the table of means.
    image, arm_image, replicate_image, rest = (
        [getattr(one, name) for one in inside] for name in ("k", "ak", "rk", "rest")
    )
    residual = float(np.mean([a + r + e for a, r, e in zip(arm_image, replicate_image, rest, strict=True)]))
    if len(scores) == 1:
        over, means = inside[0], scores[0].mean(axis=(0, 2))
        per_replicate = arms * counts[0]
    else:
        table = np.stack([one.mean(axis=2) for one in scores], axis=2)
        over, means = _layout(table), table.mean(axis=(0, 2))
        per_replicate = arms * len(scores)
        residual += over.rk + over.rest - _of_means(replicate_image, counts) - _of_means(rest, counts)
    split = _replicates(means, seeds, folds, over.around_r / per_replicate)
    residual += split.pop("seed x fold", (0.0, 0))[0]
    components: dict[str, tuple[float, int]] = {
        "arm": (over.a, arms),
        **split,
        "arm x replicate": (over.ar, arms * replicates),
    }
    if len(scores) > 1:
        components["target"] = (over.k - _of_means(image, counts), len(scores))
        components["arm x target"] = (over.ak - _of_means(arm_image, counts), arms * len(scores))
    components["image"] = (float(np.mean(image)), sum(counts))
    components["residual"] = (residual, arms * replicates * sum(counts))
    total = sum(max(0.0, variance) for variance, _ in components.values())
    return tuple(
        Part(source, variance, max(0.0, variance) / total if total else math.nan, n)
        for source, (variance, n) in components.items()
    )


def _of_means(variance: list[float], counts: list[int]) -> float:
    return float(np.mean([one / n for one, n in zip(variance, counts, strict=True)]))


def _layout(y: Floats) -> _Layout:
    """Moment estimates of the random three-way layout ``y (a, r, k)``, one score for each cell."""
    a, r, k = y.shape
    ms = _mean_squares(y)
    rest = ms["ark"]
    ar, ak, rk = (ms["ar"] - rest) / k, (ms["ak"] - rest) / r, (ms["rk"] - rest) / a
    return _Layout(
        a=(ms["a"] - ms["ar"] - ms["ak"] + rest) / (r * k),
        r=(ms["r"] - ms["ar"] - ms["rk"] + rest) / (a * k),
        k=(ms["k"] - ms["ak"] - ms["rk"] + rest) / (a * r),
        ar=ar,
        ak=ak,
        rk=rk,
        rest=rest,
        around_r=ms["ar"] + ms["rk"] - rest,
    )


def _mean_squares(y: Floats) -> dict[str, float]:
    """Mean squares of the main effects and interactions of ``y (a, r, k)``, by the letters of their axes."""
    axes = {"a": 0, "r": 1, "k": 2}
    total = y.mean()
    squares: dict[str, float] = {}
    freedom: dict[str, int] = {}
    for name in ("a", "r", "k", "ar", "ak", "rk"):
        over = tuple(axis for letter, axis in axes.items() if letter not in name)
        effect = y.mean(axis=over, keepdims=True) - total
        size = math.prod(y.shape[axis] for axis in over)
        # A table's sum of squares about the grand mean less those of the main effects in it.
        squares[name] = size * float((effect**2).sum()) - sum(squares.get(letter, 0.0) for letter in name)
        freedom[name] = math.prod(y.shape[axes[letter]] - 1 for letter in name)
    freedom["ark"] = math.prod(size - 1 for size in y.shape)
    squares["ark"] = float(((y - total) ** 2).sum()) - sum(squares.values())
    return {name: squares[name] / freedom[name] for name in freedom}


def _replicates(means: Floats, seeds: list[int], folds: list[int], around: float) -> dict[str, tuple[float, int]]:
    """The replicates' variance, as ``means (replicates,)`` have it, split into seed and fold where the design can.

    ``around``: the variance that the mean of a replicate has from all that is averaged in it.
    """
    seed_names, seed = np.unique(seeds, return_inverse=True)
    fold_names, fold = np.unique(folds, return_inverse=True)
    s, f, r = len(seed_names), len(fold_names), len(means)
    if f == 1:
        return {"seed": (float(means.var(ddof=1)) - around, r)}
    if s == 1:
        return {"fold": (float(means.var(ddof=1)) - around, r)}
    by_fold = np.bincount(fold, weights=means) / np.bincount(fold)
    if s * f == r and len({*zip(seed.tolist(), fold.tolist(), strict=True)}) == r:
        grid = np.empty((s, f))
        grid[seed, fold] = means
        both = grid - grid.mean(axis=1, keepdims=True) - grid.mean(axis=0) + grid.mean()
        left = float((both**2).sum()) / ((s - 1) * (f - 1))
        return {
            "seed": (float(grid.mean(axis=1).var(ddof=1)) - left / f, s),
            "fold": (float(grid.mean(axis=0).var(ddof=1)) - left / s, f),
            "seed x fold": (left - around, r),
        }
    within = np.bincount(fold)
    if s == r and (within == within[0]).all() and within[0] > 1:
        left = float(((means - by_fold[fold]) ** 2).sum()) / (r - f)
        fold_part = float(by_fold.var(ddof=1)) - left / float(within[0])
        return {"seed": (left - around, s), "fold": (fold_part, f)}
    return {"seed and fold": (float(means.var(ddof=1)) - around, r)}


def _balanced(finished: Flags) -> tuple[Flags, Flags]:
    """Which arms and replicates to keep so that every kept pair finished: the worst row or column goes first."""
    arms, replicates = np.ones(finished.shape[0], dtype=bool), np.ones(finished.shape[1], dtype=bool)
    gaps = (~finished).astype(np.int64)
    of_arm, of_replicate = gaps.sum(axis=1), gaps.sum(axis=0)
    while arms.any() and replicates.any() and of_arm[arms].sum():
        worst_arm = int(np.argmax(np.where(arms, of_arm, -1)))
        worst_replicate = int(np.argmax(np.where(replicates, of_replicate, -1)))
        # The worse of the two by share of what it lacks; the last two arms stay, for one arm has no arms to compare.
        if arms.sum() > 2 and of_arm[worst_arm] * arms.sum() > of_replicate[worst_replicate] * replicates.sum():
            arms[worst_arm] = False
            of_replicate = of_replicate - gaps[worst_arm]
        else:
            replicates[worst_replicate] = False
            of_arm = of_arm - gaps[:, worst_replicate]
    return arms, replicates


def _defined(scores: Floats) -> Floats:
    """The images of ``scores (arms, replicates, images)`` that have a score in all of them."""
    return scores[:, :, np.isfinite(scores).all(axis=(0, 1))]
