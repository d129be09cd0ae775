"""A cross-check of the contrasts by another method: a linear mixed model of the trials' means, by statsmodels.

The model of the mean score of arm a, replicate r on data set t is

    y[a, r, t] = mu_a + target_t + replicate_r + run_ar + error,

the arms fixed, the others normal with variances estimated by restricted maximum likelihood (Patterson & Thompson 1971).
Where several replicates share a fold or a seed, ``arm x fold`` and ``arm x seed`` join them: what an arm gains on one
fold it gains in all its runs there.
``run`` is what one training run, an arm at a replicate, has in common over data sets; without it the data sets of one
model would count as independent evidence. Data sets as a random effect follow Geburek et al. 2024, replicates stand for
seed and fold. Contrasts of the mu_a are estimated with Student's t on the degrees of freedom of the runs, (arms - 1)
(replicates - 1) if all are there, because the model's own normal quantiles are too narrow for few runs; of shared
folds or seeds, whichever are fewer, they are (arms - 1) (folds - 1).

It pools one error variance over all arms, where `harness.inference.effects` takes each contrast's own, and its
intervals speak of other replicates on the same images, not of other patients. Agreement of the two is the point; where
they part, the verdict's method makes fewer assumptions.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from harness.inference.cells import Cells, Contrast, Floats
from harness.inference.crossed import clusters
from harness.inference.refused import Refused

MOST_RUNS = 200
"""Runs of training that are fitted in seconds: the cost of statsmodels' dense matrices grows with their cube."""

# Log-likelihoods that differ by less are equal, for the optimisers stop there.
_SAME = 1e-3


@dataclass(frozen=True)
class MixedEffect:
    """A contrast of the arms' means with its standard error, t interval and two-sided p-value."""

    contrast: str
    estimate: float
    se: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Mixed:
    """The fitted model.

    ``variances``: by random effect and ``residual``, in squared units of the score. ``converged``: whether statsmodels
    reached a maximum that it trusts; where it did not, ``note`` says what it said and the numbers are not to be used.
    ``df``: degrees of freedom of the intervals. ``runs`` of ``declared`` completed and entered, as ``scores`` means.
    """

    effects: tuple[MixedEffect, ...]
    variances: dict[str, float]
    converged: bool
    note: str
    df: int
    runs: int
    declared: int
    scores: int


def mixed(cells: Cells, contrasts: Sequence[Contrast], level: float = 0.95) -> Mixed | Refused:
    """Fit the model to all completed runs, balanced or not, and estimate ``contrasts``.

    Refused with no more runs than arms and replicates, where scores do not vary, for an arm of a contrast without a
    run, and beyond 200 runs, which take too long. With one data set, ``run`` and ``target`` are not in the model.
    """
    means = cells.means()
    arm, replicate, target = np.nonzero(np.isfinite(means))
    y = means[arm, replicate, target]
    run = np.unique(arm * len(cells.replicates) + replicate, return_inverse=True)[1]
    there = np.unique(arm)
    runs = int(run.max(initial=-1)) + 1
    used = np.unique(replicate)
    axes = clusters([cells.replicates[r] for r in used]) if len(used) else {}
    shared = {name: codes[np.searchsorted(used, replicate)] for name, codes in axes.items()}
    df = min(
        (_combined(arm, codes).max() + 1 - len(there) - len(np.unique(codes)) + 1 for codes in shared.values()),
        default=0,
    )
    if refused := _unfit(cells, contrasts, there, y, runs, df):
        return refused
    fixed = _indicators(arm)
    factors = {"replicate": replicate}
    if len(np.unique(target)) > 1:
        factors = {"target": target, **factors, "run": run}
    joint = {"seeds": "arm x seed", "folds": "arm x fold"}
    factors |= {joint[name]: _combined(arm, codes) for name, codes in shared.items() if name in joint}
    # In units of the residual spread, so that the optimiser's tolerances suit Dice and percentages alike.
    scale = float(np.std(y - fixed @ np.linalg.lstsq(fixed, y)[0]))
    fitted, kept, note = _fit(y / scale, fixed, factors)
    if fitted is None:
        return Mixed((), {}, False, note, df, runs, cells.finished.size, len(y))
    means_of, covariance = np.asarray(fitted.fe_params) * scale, np.asarray(fitted.cov_params()) * scale**2
    covariance = covariance[: len(there), : len(there)]
    names = [cells.arms[a] for a in there]
    return Mixed(
        effects=tuple(_effect(one, one.vector(names), means_of, covariance, df, level) for one in contrasts),
        variances={
            **dict.fromkeys(factors, 0.0),
            **{name: float(value) * scale**2 for name, value in zip(kept, fitted.vcomp, strict=True)},
            "residual": float(fitted.scale) * scale**2,
        },
        converged=bool(fitted.converged) and not note,
        note=note,
        df=df,
        runs=runs,
        declared=cells.finished.size,
        scores=len(y),
    )


def _unfit(
    cells: Cells, contrasts: Sequence[Contrast], there: npt.NDArray[np.intp], y: Floats, runs: int, df: int
) -> Refused | None:
    named = {arm for one in contrasts for arm, weight in zip(cells.arms, one.vector(cells.arms), strict=True) if weight}
    if absent := sorted(named - {cells.arms[a] for a in there}):
        return Refused("Every arm of a contrast needs a completed run", f"{', '.join(absent)} has none", "run it again")
    if df < 1:
        found = f"{runs} runs leave {df} degrees of freedom"
        return Refused("A mixed model needs more runs than arms and replicates", found, "add replicates")
    if runs > MOST_RUNS:
        rule = f"A mixed model is fitted to {MOST_RUNS} runs at most"
        return Refused(rule, f"there are {runs}", "read the contrasts, which have no such limit")
    if np.ptp(y) == 0:
        return Refused("A mixed model needs scores that vary", f"all are {y[0]}", "ask why the metric is constant")
    return None


def _combined(one: npt.NDArray[np.intp], other: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """A label for every pair of labels that occurs, from 0 on."""
    labels: npt.NDArray[np.intp] = np.unique(one * (other.max(initial=0) + 1) + other, return_inverse=True)[1]
    return labels


def _indicators(labels: npt.NDArray[np.intp]) -> Floats:
    return np.asarray(labels[:, None] == np.unique(labels), dtype=np.float64)


def _fit(y: Floats, fixed: Floats, factors: dict[str, npt.NDArray[np.intp]]) -> tuple[Any | None, list[str], str]:
    """The fit, the factors in it, and what statsmodels warned of; None for a fit that it gave up.

    Where a variance is 0, the likelihood's curvature there can look like that of no maximum. The factor of the smallest
    variance is then left out and the fit made again; if the likelihood is none the worse, this is the same maximum.
    """
    from threadpoolctl import threadpool_limits

    kept = dict(factors)
    # The matrices are small: on a busy machine, threads that wait for one another took a hundred times as long.
    with threadpool_limits(1):
        fitted, note = _maximised(y, fixed, kept)
        while note and fitted is not None and len(kept) > 1:
            smallest = list(kept)[int(np.argmin(fitted.vcomp))]
            fewer = {name: labels for name, labels in kept.items() if name != smallest}
            again, told = _maximised(y, fixed, fewer)
            if again is None or again.llf < fitted.llf - _SAME:
                break
            fitted, note, kept = again, told, fewer
    return fitted, list(kept), note


def _maximised(y: Floats, fixed: Floats, factors: dict[str, npt.NDArray[np.intp]]) -> tuple[Any | None, str]:
    from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec
    from statsmodels.tools.sm_exceptions import ConvergenceWarning

    matrices = [_indicators(labels) for labels in factors.values()]
    columns = [[[f"{name}{j}" for j in range(m.shape[1])]] for name, m in zip(factors, matrices, strict=True)]
    # Crossed random effects: one group that holds everything, each factor a variance component of it.
    spec = VCSpec(list(factors), columns, [[matrix] for matrix in matrices])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            fitted = MixedLM(y, fixed, groups=np.zeros(len(y)), exog_vc=spec).fit(method=["lbfgs", "bfgs", "powell"])
        except (np.linalg.LinAlgError, ValueError) as error:
            return None, f"statsmodels gave up: {error}"
    told = [str(warning.message) for warning in seen if issubclass(warning.category, ConvergenceWarning)]
    # A variance near 0 is an answer, and what an earlier optimiser failed at is past once another succeeded.
    matters = [text for text in told if "boundary" not in text and (not fitted.converged or "Hessian" in text)]
    return fitted, "; ".join(dict.fromkeys(matters))


def _effect(
    contrast: Contrast, weights: Floats, means: Floats, covariance: Floats, df: int, level: float
) -> MixedEffect:
    estimate = float(weights @ means)
    variance = float(weights @ covariance @ weights)
    if not variance > 0:
        return MixedEffect(contrast.name, estimate, math.nan, math.nan, math.nan, math.nan)
    se = math.sqrt(variance)
    half = float(stdtrit(df, (1 + level) / 2)) * se
    p = 2.0 * float(stdtr(df, -abs(estimate) / se))
    return MixedEffect(contrast.name, estimate, se, estimate - half, estimate + half, p)
