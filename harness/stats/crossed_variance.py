"""The variance of a contrast in a crossed design: random replicates and random patients, each with each.

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
twice as often as a Holm-corrected level allows (``benchmarks/error_rates.py`` shows both). So each part gets the
quantile of its own degrees of freedom, margin^2 = sum over parts of t(part)^2 V(part), which covers at least as often
as it says whatever the parts' true sizes (Banerjee 1960, Sankhya 22).

Within the images' part targets of few patients and of many are summed, by Satterthwaite's rule. There the estimated
degrees of freedom fall together with the estimated variances: two patients who happen to agree leave a small variance
with many degrees. So they are capped by what the rule gives when a patient varies as much on every target. Patients who
weigh unequally (more images) get the linearisation of Bell & McCaffrey (2002, Survey Methodology 28): the plain one is
too small where one patient makes much of the mean, for the mean follows that patient.

All functions work on arrays with any leading axes, so that a thousand simulated studies cost one call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from harness.stats.imputation import Gaps
from harness.stats.scores import Floats, Pair
from sam2lora.intervals import bell_mccaffrey

_STEPS = 60
"""Bisections of a p-value's logarithm."""


@dataclass(frozen=True)
class Parts:
    """An estimate and the parts of its variance: (...) and (parts, ...), the last part is that of the images.

    ``names``: one a part; ``degrees``: degrees of freedom, (parts, ...). ``residual``: (...), what a part contains of
    MS_E / (R n): of use to plan a study (``power``), not a part of the variance. ``components``: (...) by name, what
    *replicates* add singly, and *seeds* and *folds* beyond that where several replicates share one
    (``variance_components``).
    """

    estimate: Floats
    names: tuple[str, ...]
    variances: Floats
    degrees: Floats
    residual: Floats
    components: Mapping[str, Floats] = field(default_factory=dict)

    def total(self) -> Floats:
        """(...): variance of the estimate."""
        total: Floats = self.variances.sum(axis=0)
        return total

    def fixed(self) -> Floats:
        """(...): the variance that no further replicate would shrink: that of the images, and that of shared folds."""
        fixed: Floats = self.images() + self.components.get("folds", 0.0)
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

    def beyond_p(self, smallest: float) -> Floats:
        """(...): p that the truth is within +-``smallest``, its ends included: that of as much less than the estimate.

        At most a where the interval of coverage 1 - a lies beyond ``smallest`` as a whole; 1 for an estimate within.
        """
        return self.p(np.maximum(np.abs(self.estimate) - smallest, 0.0))

    def equivalence_p(self, smallest: float) -> Floats:
        """(...): p of two one-sided tests (Schuirmann 1987) that the truth is within +-``smallest``."""
        upper, lower = smallest - self.estimate, self.estimate + smallest
        worse = np.minimum(upper, lower)
        half = self.p(worse) / 2.0
        p: Floats = np.where(worse > 0.0, half, 1.0 - half)
        return p


def crossed(
    values: Sequence[Floats],
    pairs: Sequence[Pair],
    shares: Sequence[Floats] | None = None,
    gaps: Gaps | None = None,
) -> Parts:
    """The mean over replicates, patients and targets, with its variance.

    ``values``: per target (..., R, n_t), every replicate on every patient, all finite, at least two replicates and two
    patients; ``pairs``: what the R replicates are (``replicate_parts``), each of weight ``weights``. ``shares``: per
    target (n_t,), the patients' parts in the estimate, 1 in all; equal targets of equal patients where None. Values of
    unequal patients are linearised (``per_patient``), so that their plain mean is the target's. ``gaps``: which runs
    were filled in, None for none.
    """
    count = len(pairs)
    shares = equal_shares(values) if shares is None else shares
    means, weight = target_mean(values, shares), weights(pairs)
    names, drawn, degrees = replicate_parts(means, pairs)
    if gaps is not None:
        axes = clusters(pairs)
        filled = [gaps.of_clusters(axes[name]) for name in names]
        drawn = [variance + deficit for variance, (deficit, _) in zip(drawn, filled, strict=True)]
        degrees = [min(df, free) for df, (_, free) in zip(degrees, filled, strict=True)]
    components = variance_components(means, pairs, names, drawn)
    between, inside, alike, free_of = [], [], [], []
    for value, share in zip(values, shares, strict=True):
        size = float(share.sum())
        factors, known = cr2(share / size)
        across = np.einsum("r,...rp->...p", weight, value)
        rest = value - value.mean(axis=-1, keepdims=True) - value.mean(axis=-2, keepdims=True)
        squares = ((rest + value.mean(axis=(-2, -1), keepdims=True)) ** 2).sum(axis=-2) @ factors / (count - 1)
        between.append(size**2 * ((across - across.mean(axis=-1, keepdims=True)) ** 2 @ factors))
        inside.append(size**2 * squares * (weight**2).sum())
        alike.append((share**2).sum())
        free_of.append(known)
    images, residual = np.sum(between, axis=0), np.sum(inside, axis=0)
    target_degrees = np.array(free_of)
    free = np.minimum(satterthwaite(np.stack(between), target_degrees), satterthwaite(np.stack(alike), target_degrees))
    handful = free < min(degrees)
    drawn[-1] = np.where(handful, np.maximum(0.0, drawn[-1] - residual), drawn[-1])
    images = np.where(handful, images, np.maximum(0.0, images - residual))
    return Parts(
        estimate=means @ weight,
        names=(*names, "images"),
        variances=np.stack([*drawn, images]),
        degrees=np.stack([*(np.full(images.shape, df) for df in degrees), free]),
        residual=residual,
        components=components,
    )


def equal_shares(values: Sequence[Floats]) -> tuple[Floats, ...]:
    """Per target (n_t,): the shares of patients who weigh alike on targets that weigh alike."""
    return tuple(np.full(value.shape[-1], 1.0 / (len(values) * value.shape[-1])) for value in values)


def target_mean(values: Sequence[Floats], shares: Sequence[Floats]) -> Floats:
    """(..., R): the replicates' means over patients, then over targets by the sums of their ``shares``."""
    sums = [value.mean(axis=-1) * float(share.sum()) for value, share in zip(values, shares, strict=True)]
    mean: Floats = np.sum(sums, axis=0)
    return mean


def weights(pairs: Sequence[Pair]) -> Floats:
    """(R,): what a replicate weighs in the estimate, 1 in all.

    Where folds are shared and seeds are not (or the reverse), every fold weighs alike: the variance of a mean of equal
    clusters is estimated without bias whatever their replicates vary by. Else every replicate weighs alike.
    """
    axes = list(clusters(pairs).values())
    if len(axes) > 1:
        return np.full(len(pairs), 1.0 / len(pairs))
    sizes = np.bincount(axes[0])
    weight: Floats = 1.0 / (len(sizes) * sizes[axes[0]])
    return weight


def cr2(shares: Floats) -> tuple[Floats, float]:
    """`bell_mccaffrey` of independent clusters that vary alike."""
    return bell_mccaffrey(shares, np.ones(len(shares)))


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
    - folds are shared and seeds are not (or the reverse): the replicates of each are averaged first, since they vary
      together, and the G clusters weigh alike: s2 of their means / G, G - 1;
    - a full grid of S seeds x F folds: (MS_seed + MS_fold - MS_rest) / R in two parts. The factor with fewer levels
      keeps its whole mean square, MS / R; the other adds its excess, (MS - MS_rest) / R where positive. Taking
      the rest away from the one that is known worst makes it look small too often: with 10 seeds x 2 folds that
      rejected four times as often as the level allows, this at most as often;
    - a grid with holes: fold clusters and seed clusters of unequal shares (`cr2`), a part each, which counts what
      is drawn anew twice.
    """
    count = means.shape[-1]
    axes = clusters(pairs)
    if "replicates" in axes:
        return ("replicates",), [means.var(axis=-1, ddof=1) / count], [count - 1.0]
    if len(axes) == 1:
        ((name, codes),) = axes.items()
        of_cluster = means @ (_member(codes) / np.bincount(codes))
        return (name,), [of_cluster.var(axis=-1, ddof=1) / of_cluster.shape[-1]], [float(codes.max())]
    seeds, folds = axes["seeds"], axes["folds"]
    many, few = int(seeds.max()) + 1, int(folds.max()) + 1
    if many * few == count:
        square = means[..., np.lexsort((folds, seeds))].reshape(*means.shape[:-1], many, few)
        if few > many:
            return ("seeds", "folds"), *_grid(np.swapaxes(square, -1, -2))
        return ("folds", "seeds"), *_grid(square)
    parts = [_clustered(means, codes) for codes in (folds, seeds)]
    return ("folds", "seeds"), [variance for variance, _ in parts], [free for _, free in parts]


def variance_components(
    means: Floats, pairs: Sequence[Pair], names: Sequence[str], variances: Sequence[Floats]
) -> dict[str, Floats]:
    """Variance components (...) of the mean: what ``replicate_parts`` estimated, by where it comes from.

    *replicates*: what each of them adds by itself, the mean square around the means of the seeds and folds that are
    shared, over R where all weigh alike; *seeds*, *folds*: what these add beyond it. Where no seed or fold is shared
    all of it is the replicates', although folds may cause it: the two are confounded.
    """
    if "replicates" in names:
        return {"replicates": variances[0]}
    count, axes = means.shape[-1], list(clusters(pairs).values())
    member = np.concatenate([_member(codes) for codes in axes], axis=1)
    free, single = count - int(np.linalg.matrix_rank(member)), variances[0]
    if free:
        around = means - means @ (member @ np.linalg.pinv(member)).T
        single = (around**2).sum(axis=-1) / free * (weights(pairs) ** 2).sum()
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


def per_patient(*sets: npt.NDArray[np.str_]) -> tuple[Floats, Floats]:
    """(images of all sets, patients), (patients,): turns scores per image into values per patient with the same mean.

    ``sets``: by target, the patient of each image; equal names are one patient, in different targets as well. The
    mean is that over the images of each target, then over targets. A value is that mean plus P times the patient's part
    of its deviation: the linearised mean when whole patients are drawn. The identity where everybody has one image of
    one target. The patients' shares of the mean sum to 1.
    """
    names, codes = np.unique(np.concatenate(sets), return_inverse=True)
    of_target = [
        slice(end - len(one), end) for one, end in zip(sets, np.cumsum([len(one) for one in sets]), strict=True)
    ]
    weight = np.concatenate([np.full(len(one), 1.0 / (len(one) * len(sets))) for one in sets])
    member = weight[:, None] * (codes[:, None] == np.arange(len(names)))
    matrix = len(names) * member
    for images in of_target:
        # Less the target's own mean, which the patient's images pull with them.
        matrix[images] -= len(names) * member[images].sum(axis=0) / len(member[images])
    return matrix + weight[:, None], member.sum(axis=0)


def _codes(values: Sequence[int]) -> npt.NDArray[np.intp]:
    codes: npt.NDArray[np.intp] = np.unique(values, return_inverse=True)[1]
    return codes


def _shared(codes: npt.NDArray[np.intp]) -> bool:
    """Whether several replicates share a value, without it being one for all."""
    return 1 < int(codes.max()) + 1 < len(codes)


def _member(codes: npt.NDArray[np.intp]) -> Floats:
    """(R, clusters): 1 where the replicate is of the cluster."""
    return np.asarray(codes[:, None] == np.arange(int(codes.max()) + 1), dtype=np.float64)


def _clustered(means: Floats, codes: npt.NDArray[np.intp]) -> tuple[Floats, float]:
    """The variance (...) of the plain mean over replicates whose clusters are drawn, with its degrees of freedom."""
    shares = np.bincount(codes) / len(codes)
    away = (means - means.mean(axis=-1, keepdims=True)) @ _member(codes) / len(codes)
    factors, free = cr2(shares)
    variance: Floats = (len(shares) * away) ** 2 @ factors
    return variance, free


def _grid(means: Floats) -> tuple[list[Floats], list[float]]:
    """Variances and degrees of freedom of the few, then of the many: ``means`` (..., many, few)."""
    many, few = means.shape[-2:]
    mean = means.mean(axis=(-2, -1), keepdims=True)
    rows, columns = means.mean(axis=-1, keepdims=True), means.mean(axis=-2, keepdims=True)
    rest = ((means - rows - columns + mean) ** 2).sum(axis=(-2, -1)) / ((many - 1.0) * (few - 1.0))
    excess = np.maximum(0.0, few * rows[..., 0].var(axis=-1, ddof=1) - rest)
    whole = many * columns[..., 0, :].var(axis=-1, ddof=1)
    return [whole / (many * few), excess / (many * few)], [few - 1.0, many - 1.0]
