"""How far a contrast can be off: replicates and patients are both drawn, and every replicate meets every patient.

This is the multi-reader multi-case design of diagnostic imaging with replicates as readers and patients as cases
(Obuchowski & Rockette 1995; Hillis, Berbaum & Metz 2008). With d[r, t, i] the contrast in replicate r on patient i of
target t, and T targets with n_t patients each, the mean over replicates, patients and targets has the variance

    V = V_replicates + V_images
    V_replicates = s2 over r of (mean over t and i of d) / R          (contains what is drawn anew in every cell)
    V_images     = max(0, sum over t of (s2 over i of (mean over r of d) - MS_E,t / R) / (n_t T^2))

with MS_E,t the replicate x patient mean square: (MS_R + MS_I - MS_E) of the two-way crossed analysis of variance. Where
the images' part has fewer degrees of freedom than the replicates' (a handful of patients), MS_E is taken from the
replicates' part instead: whichever is known worst keeps its mean square whole.

Few replicates estimate their part badly, many patients theirs well. One t quantile with Satterthwaite's degrees of
freedom (Hillis 2007) lets the well known part hide the badly known one: with 3 replicates it rejects a true null
twice as often as a Holm-corrected level allows (``benchmarks/error_rates.py`` shows it beside). So each part gets the
quantile of its own degrees of freedom, margin^2 = sum over parts of t(part)^2 V(part), which covers at least as often
as it says whatever the parts' true sizes (Banerjee 1960, Sankhya 22).

All functions work on arrays with any leading axes, so that a thousand simulated studies cost one call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from harness.inference.cells import Floats, Pair

_STEPS = 60
"""Bisections of a p-value's logarithm."""


@dataclass(frozen=True)
class Parts:
    """An estimate and the parts of its variance: (...) and (parts, ...), the last part is that of the images.

    ``names``: one a part; ``degrees``: degrees of freedom, (parts, ...). ``residual``: (...), what a part contains of
    MS_E / (R n): of use to plan a study (``power``), no part of its own. ``own``: (...) by name, what *replicates* add
    singly, and *seeds* and *folds* beyond that where several replicates share one (``own_variances``).
    """

    estimate: Floats
    names: tuple[str, ...]
    variances: Floats
    degrees: Floats
    residual: Floats
    own: Mapping[str, Floats] = field(default_factory=dict)

    def total(self) -> Floats:
        """(...): variance of the estimate."""
        total: Floats = self.variances.sum(axis=0)
        return total

    def fixed(self) -> Floats:
        """(...): the variance that no further replicate would shrink: that of the images, and that of shared folds."""
        fixed: Floats = self.images() + self.own.get("folds", 0.0)
        return fixed

    def images(self) -> Floats:
        """(...): the variance of the images alone, less what single cells add to it."""
        handful = self.degrees[-1] < self.degrees[:-1].min(axis=0)
        images: Floats = np.maximum(0.0, self.variances[-1] - np.where(handful, self.residual, 0.0))
        return images

    def margin(self, level: float = 0.95) -> Floats:
        """(...): half the width of the two-sided interval of coverage ``level``."""
        quantiles = -stdtrit(self.degrees, (1.0 - level) / 2.0)
        margin: Floats = np.sqrt((quantiles**2 * self.variances).sum(axis=0))
        return margin

    def p(self, distance: Floats | None = None) -> Floats:
        """(...): two-sided p of the hypothesis that the truth lies ``distance`` (the estimate itself) below it.

        The smallest a at which an interval of coverage 1 - a leaves it out. Half of it is the one-sided p in the
        direction seen. No variance at all: 0 for a distance that is not 0, 1 for one that is.
        """
        away = np.abs(self.estimate if distance is None else distance)
        total = self.total()
        sharp = total <= 0.0
        ratio = away / np.sqrt(np.where(sharp, 1.0, total))
        each = np.log(np.maximum(2.0 * stdtr(self.degrees, -ratio), 1e-300))
        low, high = each.min(axis=0), each.max(axis=0)
        for _ in range(_STEPS if len(self.names) > 1 else 0):
            middle = (low + high) / 2.0
            reach = (stdtrit(self.degrees, np.exp(middle) / 2.0) ** 2 * self.variances).sum(axis=0)
            short = reach > away**2
            low, high = np.where(short, middle, low), np.where(short, high, middle)
        p: Floats = np.where(sharp, np.where(away > 0.0, 0.0, 1.0), np.exp((low + high) / 2.0))
        return p

    def equivalence_p(self, smallest: float) -> Floats:
        """(...): p of two one-sided tests (Schuirmann 1987) that the truth is within +-``smallest``."""
        upper, lower = smallest - self.estimate, self.estimate + smallest
        worse = np.minimum(upper, lower)
        half = self.p(worse) / 2.0
        p: Floats = np.where(worse > 0.0, half, 1.0 - half)
        return p


def crossed(values: Sequence[Floats], pairs: Sequence[Pair]) -> Parts:
    """The mean over replicates, patients and targets, with its variance.

    ``values``: per target (..., R, n_t), every replicate on every patient, all finite, at least two replicates and two
    patients; ``pairs``: what the R replicates are (``replicate_parts``).
    """
    count, targets = len(pairs), len(values)
    means = np.stack([value.mean(axis=-1) for value in values]).mean(axis=0)
    names, drawn, degrees = replicate_parts(means, pairs)
    own = own_variances(means, pairs, names, drawn)
    between, inside = [], []
    for value in values:
        patients = value.shape[-1]
        across = value.mean(axis=-2, keepdims=True)
        rest = value - value.mean(axis=-1, keepdims=True) - across + value.mean(axis=(-2, -1), keepdims=True)
        squares = (rest**2).sum(axis=(-2, -1)) / ((count - 1) * (patients - 1))
        between.append(across[..., 0, :].var(axis=-1, ddof=1) / (patients * targets**2))
        inside.append(squares / (count * patients * targets**2))
    images, residual = np.sum(between, axis=0), np.sum(inside, axis=0)
    free = satterthwaite(np.stack(between), np.array([value.shape[-1] - 1.0 for value in values]))
    handful = free < min(degrees)
    drawn[-1] = np.where(handful, np.maximum(0.0, drawn[-1] - residual), drawn[-1])
    images = np.where(handful, images, np.maximum(0.0, images - residual))
    return Parts(
        estimate=means.mean(axis=-1),
        names=(*names, "images"),
        variances=np.stack([*drawn, images]),
        degrees=np.stack([*(np.full(images.shape, df) for df in degrees), free]),
        residual=residual,
        own=own,
    )


def satterthwaite(variances: Floats, degrees: Floats) -> Floats:
    """(...): degrees of freedom of a sum of variances (parts, ...) that have ``degrees`` (parts,) each.

    (sum v)^2 / sum(v^2 / df) (Satterthwaite 1946); the smallest of ``degrees`` where all variances are 0.
    """
    shaped = degrees.reshape(-1, *[1] * (variances.ndim - 1))
    bottom = (variances**2 / shaped).sum(axis=0)
    empty = bottom <= 0.0
    degrees_of_sum: Floats = np.where(empty, degrees.min(), variances.sum(axis=0) ** 2 / np.where(empty, 1.0, bottom))
    return degrees_of_sum


def replicate_parts(means: Floats, pairs: Sequence[Pair]) -> tuple[tuple[str, ...], list[Floats], list[float]]:
    """Names, variances (...) and degrees of freedom of the replicates' parts of the variance of their mean.

    ``means``: (..., R), the contrast in every replicate. How the replicates hang together decides:

    - no two share a seed or a fold, or one of the two is the same for all: R plain replicates, s2 / R, R - 1;
    - folds are shared and seeds are not (or the reverse): whoever shares one is averaged first, since they vary
      together; clusters g of n_g: sum (n_g / R)^2 (mean_g - mean)^2 G / (G - 1), G - 1. Equal clusters make it exact;
    - a full grid of S seeds x F folds: (MS_seed + MS_fold - MS_rest) / R in two parts. The factor with fewer levels
      keeps its whole mean square, MS / R; the other adds its excess, (MS - MS_rest) / R where positive. Taking
      the rest away from the one that is known worst makes it look small too often: with 10 seeds x 2 folds that
      rejected four times as often as the level allows, this at most as often;
    - a grid with holes: fold clusters and seed clusters, a part each, which counts what is drawn anew twice.
    """
    count = means.shape[-1]
    axes = clusters(pairs)
    if "replicates" in axes:
        return ("replicates",), [means.var(axis=-1, ddof=1) / count], [count - 1.0]
    if len(axes) == 1:
        ((name, codes),) = axes.items()
        return (name,), [_clustered(means, codes)], [float(codes.max())]
    seeds, folds = axes["seeds"], axes["folds"]
    many, few = int(seeds.max()) + 1, int(folds.max()) + 1
    if many * few == count:
        square = means[..., np.lexsort((folds, seeds))].reshape(*means.shape[:-1], many, few)
        if few > many:
            return ("seeds", "folds"), *_grid(np.swapaxes(square, -1, -2))
        return ("folds", "seeds"), *_grid(square)
    return ("folds", "seeds"), [_clustered(means, folds), _clustered(means, seeds)], [few - 1.0, many - 1.0]


def own_variances(
    means: Floats, pairs: Sequence[Pair], names: Sequence[str], variances: Sequence[Floats]
) -> dict[str, Floats]:
    """What ``replicate_parts`` found, told apart by where it comes from, in variances (...) of the mean.

    *replicates*: what each of them adds by itself, the mean square around the means of the seeds and folds that are
    shared, over R; *seeds*, *folds*: what these add beyond it. Where no seed or fold is shared all of it is the
    replicates', although folds may be behind it: nobody can tell.
    """
    if "replicates" in names:
        return {"replicates": variances[0]}
    count, axes = means.shape[-1], list(clusters(pairs).values())
    member = np.concatenate([codes[:, None] == np.arange(codes.max() + 1) for codes in axes], axis=1).astype(np.float64)
    free, single = count - int(np.linalg.matrix_rank(member)), variances[0]
    if free:
        around = means - means @ (member @ np.linalg.pinv(member)).T
        single = (around**2).sum(axis=-1) / (free * count)
    # A full grid's second part is an excess already (``_grid``); every other part has the replicates' own in it.
    full = len(axes) > 1 and np.prod([codes.max() + 1 for codes in axes]) == count
    beyond = {
        name: variance if full and k else np.maximum(0.0, variance - single)
        for k, (name, variance) in enumerate(zip(names, variances, strict=True))
    }
    return {"replicates": single, **beyond}


def clusters(pairs: Sequence[Pair]) -> dict[str, npt.NDArray[np.intp]]:
    """The axes along which replicates are drawn, each as a code (R,) from 0 on: what a bootstrap resamples.

    *seeds* and *folds*, whichever of them several replicates share, else *replicates*.
    """
    seeds, folds = _codes([pair.seed for pair in pairs]), _codes([pair.fold for pair in pairs])
    found = {name: codes for name, codes in (("seeds", seeds), ("folds", folds)) if _shared(codes)}
    return found or {"replicates": np.arange(len(pairs))}


def per_patient(patients: npt.NDArray[np.str_]) -> Floats:
    """(images, patients): turns scores per image into values per patient with the same mean.

    A value is (P / N) times the sum of the patient's deviations from the mean over all N images, plus that mean: the
    linearised mean over images when whole patients are drawn. The identity where everybody has one image.
    """
    names, codes = np.unique(patients, return_inverse=True)
    member = codes[:, None] == np.arange(len(names))
    images = len(patients)
    share = member.sum(axis=0) / images
    matrix: Floats = len(names) / images * (member - share) + 1.0 / images
    return matrix


def _codes(values: Sequence[int]) -> npt.NDArray[np.intp]:
    codes: npt.NDArray[np.intp] = np.unique(values, return_inverse=True)[1]
    return codes


def _shared(codes: npt.NDArray[np.intp]) -> bool:
    """Whether several replicates share a value, without it being one for all."""
    return 1 < int(codes.max()) + 1 < len(codes)


def _clustered(means: Floats, codes: npt.NDArray[np.intp]) -> Floats:
    groups = int(codes.max()) + 1
    member = (codes[:, None] == np.arange(groups)).astype(np.float64)
    away = (means - means.mean(axis=-1, keepdims=True)) @ member / len(codes)
    variance: Floats = (away**2).sum(axis=-1) * groups / (groups - 1)
    return variance


def _grid(means: Floats) -> tuple[list[Floats], list[float]]:
    """Variances and degrees of freedom of the few, then of the many: ``means`` (..., many, few)."""
    many, few = means.shape[-2:]
    mean = means.mean(axis=(-2, -1), keepdims=True)
    rows, columns = means.mean(axis=-1, keepdims=True), means.mean(axis=-2, keepdims=True)
    rest = ((means - rows - columns + mean) ** 2).sum(axis=(-2, -1)) / ((many - 1.0) * (few - 1.0))
    excess = np.maximum(0.0, few * rows[..., 0].var(axis=-1, ddof=1) - rest)
    whole = many * columns[..., 0, :].var(axis=-1, ddof=1)
    return [whole / (many * few), excess / (many * few)], [few - 1.0, many - 1.0]
