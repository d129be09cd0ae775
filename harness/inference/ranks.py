"""Arms ranked over data sets, and what few data sets allow to be said of them.

Each data set counts once: its score in an arm is the mean over images and replicates. Ranks and signed ranks ask
whether an arm would do better on *another* data set, unlike the contrasts of `harness.inference.effects`, which speak
of the named ones. That needs data sets: over n of them a signed-rank test cannot give a p-value below 2 / 2^n, whatever
the scores, and m comparisons under Holm need 2 m / 2^n. What cannot be reached is `Refused`, not computed. Replicates
are not taken for further data sets, because they would only repeat the same ones.

Sources: Demsar 2006 (Friedman, Nemenyi, Wilcoxon), Benavoli et al. 2014 and 2017 (Bayesian signed-rank, region of
practical equivalence). scipy is imported where it is used: a report without ranks need not wait.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc

from harness.inference.cells import Cells, Floats
from harness.inference.refused import Refused


@dataclass(frozen=True)
class CriticalDifference:
    """Nemenyi's distance: mean ranks that differ by less are not told apart.

    ``groups``: maximal runs of two or more arms within that distance, best first, as bars of a diagram.
    """

    distance: float
    groups: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class PairTest:
    """Wilcoxon's exact signed-rank test of two arms over data sets: ``p`` and its Holm-adjusted ``holm_p``."""

    one: str
    other: str
    p: float
    holm_p: float


@dataclass(frozen=True)
class Ranks:
    """Arms over data sets, best first.

    ``mean_ranks``: 1 is best, ties share. ``friedman_p``: that all arms are alike, by scipy's chi-squared
    approximation, which is rough below about ten data sets or six arms; refused where that cannot reach the level.
    ``datasets``: those with a score in every arm,
    ``left_out`` the others.
    """

    arms: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    datasets: tuple[str, ...]
    left_out: tuple[str, ...]
    friedman_p: float | Refused
    nemenyi: CriticalDifference | Refused
    wilcoxon: tuple[PairTest, ...] | Refused


@dataclass(frozen=True)
class SignedRank:
    """Posterior probabilities that on another data set ``one`` is worse than, practically equal to, better than
    ``other``; ``rope`` is what counts as equal, ``datasets`` how many it was learnt from.
    """

    one: str
    other: str
    worse: float
    equal: float
    better: float
    rope: float
    datasets: int


def ranks(cells: Cells, alpha: float = 0.05) -> Ranks | Refused:
    """Mean ranks, Friedman's test, the critical difference, and all pairs by Wilcoxon under Holm.

    Each part that could not come out significant at ``alpha`` whatever the scores is `Refused` by itself. Refused
    altogether with fewer than two arms that have scores, or no data set in which all of those have one.
    """
    scores, arms, datasets, left_out = _by_dataset(cells)
    if len(arms) < 2 or not datasets:
        found = f"there are {len(arms)} arms and {len(datasets)} data sets"
        return Refused("Ranks need two or more arms with scores on a data set", found, "let more trials finish")
    from scipy.stats import rankdata

    mean = rankdata(-scores, axis=1).mean(axis=0)
    order = np.argsort(mean, kind="stable")
    best, mean, scores = tuple(arms[a] for a in order), mean[order], scores[:, order]
    return Ranks(
        arms=best,
        mean_ranks=tuple(float(rank) for rank in mean),
        datasets=datasets,
        left_out=left_out,
        friedman_p=_friedman(scores, alpha),
        nemenyi=_nemenyi(best, mean, len(datasets), alpha),
        wilcoxon=_wilcoxon(best, scores, alpha),
    )


_PRIOR = 0.5


def signed_rank(
    cells: Cells,
    one: str,
    other: str,
    rope: float,
    rng: np.random.Generator,
    alpha: float = 0.05,
    samples: int = 20_000,
) -> SignedRank | Refused:
    """Bayesian signed-rank test of two arms over data sets, with ``rope`` as practical equivalence.

    Benavoli et al. 2017 (JMLR 18, 77), section 4.2: the differences are weighed by draws of a Dirichlet process whose
    prior is half a data set without a difference; a draw votes for the region in which most of its pairs' means lie.

    Refused where even an exact signed-rank test could not reach ``alpha``: with so few data sets the answer is the
    prior's. Global random state is not touched. Raises ``ValueError`` for an unknown arm or a ``rope`` that is not
    positive.
    """
    if unknown := {one, other} - set(cells.arms):
        raise ValueError(f"Arms must be among {', '.join(cells.arms)}, but got {sorted(unknown)}.")
    if not rope > 0:
        raise ValueError(f"A region of practical equivalence must be wider than 0, but is {rope}: give what is small.")
    means = _over_replicates(cells)[[cells.arms.index(one), cells.arms.index(other)]]
    both = means[:, np.isfinite(means).all(axis=0)]
    n = both.shape[1]
    if refused := _too_few(n, 1, alpha):
        return refused
    differences = np.concatenate([[0.0], both[0] - both[1]])  # in front, the prior's data set
    pairs = (differences[:, None] + differences[None, :]) / 2.0
    weights = rng.dirichlet([_PRIOR, *np.ones(n)], size=samples)
    regions = (pairs < -rope, np.abs(pairs) <= rope, pairs > rope)
    votes = np.stack([((weights @ region) * weights).sum(axis=1) for region in regions], axis=1)
    worse, equal, better = np.bincount(votes.argmax(axis=1), minlength=3) / samples
    return SignedRank(one, other, float(worse), float(equal), float(better), rope, n)


def _over_replicates(cells: Cells) -> Floats:
    """(arms, data sets): means over the replicates that have one; NaN where there is none."""
    means = cells.means()
    count = np.isfinite(means).sum(axis=1)
    total = np.nansum(means, axis=1)
    over: Floats = np.divide(total, count, out=np.full(total.shape, math.nan), where=count > 0)
    return over


def _by_dataset(cells: Cells) -> tuple[Floats, tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Scores (data sets, arms) of the arms with any score and the data sets where all of these have one."""
    means = _over_replicates(cells)
    finite = np.isfinite(means)
    arms: npt.NDArray[np.bool_] = np.logical_or.reduce(finite, axis=1)
    full: npt.NDArray[np.bool_] = np.logical_and.reduce(finite[arms], axis=0) & arms.any()
    names = tuple(target.name for target in cells.targets)
    kept = tuple(name for name, has in zip(names, full, strict=True) if has)
    gone = tuple(name for name, has in zip(names, full, strict=True) if not has)
    there = tuple(arm for arm, has in zip(cells.arms, arms, strict=True) if has)
    return means[arms][:, full].T, there, kept, gone


def _friedman(scores: Floats, alpha: float) -> float | Refused:
    n, k = scores.shape
    if k < 3:
        return Refused("Friedman's test compares three or more arms", f"there are {k}", "read the pair's contrast")
    # Of the p that is printed: chi-squared where all data sets rank alike. The exact test's, 1 / k!^(n - 1), is lower.
    floor = float(chdtrc(k - 1, n * (k - 1)))
    if floor > alpha:
        found = f"{n} data sets and {k} arms reach p = {floor:.3g} at the least"
        return Refused(f"Friedman's test must be able to reach p = {alpha}", found, "add a data set")
    if (scores == scores[:, :1]).all():
        return 1.0  # scipy divides by a spread of zero
    from scipy.stats import friedmanchisquare

    return float(friedmanchisquare(*scores.T).pvalue)


def _nemenyi(arms: tuple[str, ...], mean: Floats, n: int, alpha: float) -> CriticalDifference | Refused:
    from scipy.stats import studentized_range

    k = len(arms)
    # scipy's quantile at infinite degrees of freedom is that of the range of k normals; the scale is Demsar's.
    distance = float(studentized_range.ppf(1 - alpha, k, np.inf)) / math.sqrt(2) * math.sqrt(k * (k + 1) / (6 * n))
    if distance >= k - 1:
        found = f"{k} arms over {n} data sets can differ by {k - 1} and would have to by {distance:.2f}"
        return Refused("The critical difference must be below the largest difference of ranks", found, "add data sets")
    ends = np.searchsorted(mean, mean + distance).tolist()  # where the run that starts at each arm ends
    runs = [(start, end) for start, end in enumerate(ends) if start == 0 or end > ends[start - 1]]
    return CriticalDifference(distance, tuple(arms[start:end] for start, end in runs if end - start > 1))


def _wilcoxon(arms: tuple[str, ...], scores: Floats, alpha: float) -> tuple[PairTest, ...] | Refused:
    if refused := _too_few(len(scores), math.comb(len(arms), 2), alpha):
        return refused
    pairs = list(combinations(range(len(arms)), 2))
    found = [_signed_rank_p(scores[:, i] - scores[:, j]) for i, j in pairs]
    adjusted = _holm(found)
    return tuple(PairTest(arms[i], arms[j], p, h) for (i, j), p, h in zip(pairs, found, adjusted, strict=True))


def _signed_rank_p(difference: Floats) -> float:
    if not difference.any():
        return 1.0  # nothing to rank
    from scipy.stats import PermutationMethod, wilcoxon

    ties = len(np.unique(np.abs(difference))) < len(difference) or (difference == 0).any()
    if not ties or len(difference) > 13:
        return float(wilcoxon(difference, method="auto").pvalue)
    # scipy's exact distribution knows no ties; all 2^n signs of the ranks at hand do.
    return float(wilcoxon(difference, method=PermutationMethod(n_resamples=2**13 + 1)).pvalue)


def _holm(p: list[float]) -> list[float]:
    from statsmodels.stats.multitest import multipletests

    return [float(value) for value in multipletests(p, method="holm")[1]]


def _too_few(n: int, comparisons: int, alpha: float) -> Refused | None:
    floor = min(1.0, 2.0 * comparisons / 2**n)
    if floor <= alpha:
        return None
    need = math.ceil(math.log2(2 * comparisons / alpha))
    among = "" if comparisons == 1 else f" for one of {comparisons} comparisons under Holm"
    return Refused(
        f"A signed-rank test over data sets must be able to reach p = {alpha}{among}",
        f"{n} data sets reach p = {floor:.3g} at the least",
        f"{need} data sets are needed; the contrasts over replicates and patients speak of the data sets at hand",
    )
