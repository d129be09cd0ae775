"""Imputation of missing runs, so that one failed trial does not cost a contrast its whole replicate.

A main effect is a sum over many arms, and one failed trial would cost it the whole replicate. Instead the missing cells
are imputed by the fit of an additive model, arm + replicate, to the cells that are there (the missing plot of Yates
1933, Empire Journal of Experimental Agriculture 1): contrasts of the imputed table are the least squares estimates from
what is there, and without gaps the table stays as it is. That a run is missing must not depend on its score
(`harness.stats.missing_data` asks whether it does).

An imputed cell adds no noise, so that the spread of the replicates' contrasts is too small. Of each arm with
gaps the deficit is known from the design, in units of the variance of that arm's runs; it is added with the variance of
the arm's own runs around the mean of the others, for an arm whose runs fail may well be one whose runs vary. Degrees of
freedom are those of the quadratic form (Satterthwaite), runs alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.stats.scores import Floats

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Gap:
    """An arm with missing runs: ``reach`` (R, R), what its runs add to the contrast in each replicate; ``variance`` of
    one of its runs.
    """

    reach: Floats
    variance: float


@dataclass(frozen=True)
class Gaps:
    """What was imputed in a contrast of R replicates: ``runs`` of them, and the arms they are of.

    ``spread``: (R, R), the covariance of the replicates' contrasts if every run had noise of variance 1 of its own.
    """

    runs: int
    arms: tuple[Gap, ...]
    spread: Floats

    def of_clusters(self, codes: npt.NDArray[np.intp]) -> tuple[float, float]:
        """What is missing in s2 / G of the means of G clusters ``codes`` (R,), and its degrees of freedom.

        What an arm's runs of one cluster (a fold) have in common may be all that they vary by: the larger of the two.
        """
        member = np.asarray(codes[:, None] == np.arange(int(codes.max()) + 1), dtype=np.float64)
        groups = member.shape[1]
        mean = member / member.sum(axis=0)
        form = mean @ (np.eye(groups) - 1.0 / groups) @ mean.T / (groups * (groups - 1))
        weight = mean.mean(axis=1)
        deficit = 0.0
        for arm in self.arms:
            alike = [arm.reach @ arm.reach.T, arm.reach @ member @ member.T @ arm.reach.T]
            deficit += arm.variance * max(float(weight @ one @ weight - np.sum(form * one)) for one in alike)
        product = form @ self.spread
        return deficit, float(np.trace(product) ** 2 / np.sum(product * product.T))


def usable(present: Flags, fewest: int) -> Flags:
    """(replicates,): those that an estimate over the arms can use, ``present`` (arms, replicates) being the runs.

    A replicate with more than half of the arms, so that any two have an arm in common, if with these every arm has
    ``fewest`` runs; else only those with all arms.
    """
    most: Flags = 2 * present.sum(axis=0) > len(present)
    return most if (present[:, most].sum(axis=1) >= fewest).all() else np.logical_and.reduce(present, axis=0)


def impute(scores: Floats, present: Flags) -> Floats:
    """``scores`` (arms, replicates, images); those not ``present`` (arms, replicates) by the additive fit."""
    if present.all():
        return scores
    filled = scores.copy()
    filled[~present] = _fit(present) @ scores[present]
    return filled


def gaps(means: Floats, present: Flags, weights: Floats) -> Gaps | None:
    """What was imputed in the contrast ``weights`` (arms,) of ``means`` (arms, replicates); None for nothing."""
    if present.all():
        return None
    arms, replicates = present.shape
    path = np.diag(present.ravel().astype(np.float64))
    path[np.ix_(~present.ravel(), present.ravel())] = _fit(present)
    reach = np.einsum("a,arbs->brs", weights, path.reshape(arms, replicates, arms, replicates))
    others = (means.sum(axis=0) - means) / (arms - 1)
    lacking = [
        Gap(reach[a], float((means[a] - others[a])[present[a]].var(ddof=1)))
        for a in np.flatnonzero(~present.all(axis=1))
    ]
    return Gaps(int((~present).sum()), tuple(lacking), np.einsum("brs,bqs->rq", reach, reach))


def _fit(present: Flags) -> Floats:
    """(missing, present): the additive fit of the missing cells as sums of those that are there."""
    arms, replicates = present.shape
    design = np.concatenate([np.repeat(np.eye(arms), replicates, axis=0), np.tile(np.eye(replicates), (arms, 1))], 1)
    there = present.ravel()
    fitted: Floats = design[~there] @ np.linalg.pinv(design[there])
    return fitted
