"""A linear mixed model of the trials' means, fitted by restricted maximum likelihood, as a check on the contrasts.

The model of the mean score of arm a, replicate r on data set t is

    y[a, r, t] = mu_a + target_t + replicate_r + run_ar + error,

arms and replicates fixed, the others normal with variances estimated by restricted maximum likelihood (Patterson &
Thompson 1971). Replicates are blocks: arms are compared within them. Drawn, they would seem to vary less than not at
all in half of the studies, once arms share their luck, and a variance held at 0 makes the standard errors of a small
study up to 7 % too small. Where several replicates share a fold or a seed, ``arm x fold`` and ``arm x seed`` join them:
what an arm gains on one fold it gains in all its runs there.
``run`` is what one training run, an arm at a replicate, has in common over data sets; without it the data sets of one
model would count as independent evidence. Data sets as a random effect follow Geburek et al. 2024. Contrasts of the
mu_a are estimated with Student's t on the degrees of freedom of the runs, (arms - 1) (replicates - 1) if all are there,
because the model's own normal quantiles are too narrow for few runs; of shared folds or seeds, whichever are fewer,
they are (arms - 1) (folds - 1).

It pools one error variance over all arms, where `harness.stats.effects` takes each contrast's own, and its
intervals speak of other replicates on the same images, not of other patients. Agreement of the two is the point; where
they part, the verdict's method makes fewer assumptions.

The likelihood is maximised as lme4 does it (Bates, Maechler, Bolker & Walker 2015, Journal of Statistical Software 67):
profiled over means and residual, so that only the ratios of the other variances to it are sought, each bounded at 0.
statsmodels' MixedLM seeks them without a bound: where a variance came out as 0 it gave up, or its standard errors were
up to a sixth off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular
from scipy.optimize import minimize
from scipy.special import stdtr, stdtrit

from harness.stats.crossed_variance import clusters
from harness.stats.refusal import Refused
from harness.stats.scores import Cells, Contrast, Floats

MOST_RUNS = 200
"""Runs of training that are fitted in seconds: the cost grows with their cube."""

_TRIES = 10
"""Times that the search goes on where it ended before a maximum, or at a variance of 0 that is none."""
_NIL, _STEPS = 1e-6, (0.02, 0.1, 0.5)
"""A variance relative to the residual's that is 0, and standard deviations to which it is set to see whether it is."""
_FLAT, _SAME = 1e-3, 1e-3
"""A slope of the deviance by a variance's logarithm that is 0, and deviances that are the same."""


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

    ``variances``: by random effect and ``residual``, in squared units of the score. ``converged``: whether a
    maximum of the likelihood was reached; where it was not, ``note`` says so and there are no effects.
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
    run, where arms share no replicate, even by way of others, and beyond 200 runs, which take too long. With one data
    set, ``run`` and ``target`` are not in the model.
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
    fixed = np.concatenate([_indicators(arm), _indicators(replicate)[:, 1:]], axis=1)
    factors: dict[str, npt.NDArray[np.intp]] = {}
    if len(np.unique(target)) > 1:
        factors = {"target": target, "run": run}
    joint = {"seeds": "arm x seed", "folds": "arm x fold"}
    factors |= {joint[name]: _combined(arm, codes) for name, codes in shared.items() if name in joint}
    # In units of the residual spread, so that the optimiser's tolerances suit Dice and percentages alike.
    scale = float(np.std(y - fixed @ np.linalg.lstsq(fixed, y)[0]))
    if np.linalg.matrix_rank(fixed) < fixed.shape[1]:
        rule = "A mixed model needs arms that share replicates"
        return Refused(rule, "some share none, even by way of others", "run the missing trials")
    if scale <= 1e-12 * float(np.abs(y).max()):
        rule = "A mixed model needs scores that vary"
        return Refused(rule, "arm and replicate say all about them", "read the contrasts")
    fitted, converged = _fit(y / scale, fixed, list(factors.values()))
    covariance = fitted.covariance[: len(there), : len(there)] * scale**2
    names = [cells.arms[a] for a in there]
    return Mixed(
        effects=tuple(
            _effect(one, one.vector(names), fitted.means[: len(there)] * scale, covariance, df, level)
            for one in contrasts
            if converged
        ),
        variances={
            name: float(value) * scale**2 for name, value in zip((*factors, "residual"), fitted.variances, strict=True)
        },
        converged=converged,
        note="" if converged else "no maximum of its likelihood was found",
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
        value = f"{runs} runs leave {df} degrees of freedom"
        return Refused("A mixed model needs more runs than arms and replicates", value, "add replicates")
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


@dataclass(frozen=True)
class _Fitted:
    """``means`` of the fixed effects with their ``covariance``; ``variances`` of each factor, then of the residual."""

    means: Floats
    covariance: Floats
    variances: Floats


class _Profile:
    """The restricted likelihood of y = fixed effects + factors + residual, profiled over all but the ratios of the
    factors' standard deviations to the residual's. Every evaluation costs the cube of the factors' levels.
    """

    def __init__(self, y: Floats, fixed: Floats, factors: Sequence[npt.NDArray[np.intp]]) -> None:
        random = [_indicators(labels) for labels in factors]
        self.factor = np.repeat(np.arange(len(random)), [one.shape[1] for one in random]).astype(np.intp)
        z = np.concatenate([np.empty((len(y), 0)), *random], axis=1)
        self.zz, self.zx, self.zy = z.T @ z, z.T @ fixed, z.T @ y
        self.xx, self.xy, self.yy = fixed.T @ fixed, fixed.T @ y, float(y @ y)
        self.free = len(y) - fixed.shape[1]

    def solved(self, ratios: Floats) -> tuple[float, Floats, _Fitted]:
        """Minus twice the log-likelihood but for a constant, its slopes by the squared ratios, and the fit."""
        scale = ratios[self.factor]
        lower = np.linalg.cholesky(scale[:, None] * self.zz * scale + np.eye(len(scale)))
        of_z, of_x, of_y = (
            solve_triangular(lower, scale[:, None] * one, lower=True) for one in (self.zz, self.zx, self.zy[:, None])
        )
        information = self.xx - of_x.T @ of_x
        covariance = np.linalg.inv(information)
        right = self.xy - of_x.T @ of_y[:, 0]
        means = covariance @ right
        residual = max(float(self.yy - of_y[:, 0] @ of_y[:, 0] - right @ means) / self.free, 1e-24)
        deviance = 2.0 * np.log(np.diag(lower)).sum() + np.linalg.slogdet(information)[1] + self.free * np.log(residual)
        # Of Z'PZ and Z'Py, P the inverse covariance of y less what the means explain, over the residual variance.
        across = self.zx - of_z.T @ of_x
        around = self.zy - of_z.T @ of_y[:, 0] - across @ means
        diagonal = np.diag(self.zz) - (of_z**2).sum(axis=0) - ((across @ covariance) * across).sum(axis=1)
        slopes: Floats = np.bincount(self.factor, diagonal - around**2 / residual, len(ratios)).astype(np.float64)
        return float(deviance), slopes, _Fitted(means, residual * covariance, residual * np.append(ratios**2, 1.0))

    def sloped(self, ratios: Floats) -> tuple[float, Floats]:
        """The deviance and its slopes by the ratios."""
        deviance, slopes, _ = self.solved(ratios)
        return deviance, 2.0 * ratios * slopes


def _fit(y: Floats, fixed: Floats, factors: Sequence[npt.NDArray[np.intp]]) -> tuple[_Fitted, bool]:
    """The fit, and whether it is a maximum: slopes of 0, and no variance of 0 that a larger one would better."""
    from threadpoolctl import threadpool_limits

    profile = _Profile(y, fixed, factors)
    ratios, converged = np.ones(len(factors)), False
    _, _, fitted = profile.solved(ratios)
    # The matrices are small: on a busy machine, threads that wait for one another took a hundred times as long.
    with threadpool_limits(1):
        for _ in range(_TRIES if factors else 0):
            ratios = minimize(
                profile.sloped, ratios, jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * len(factors),
                options={"ftol": 1e-15, "gtol": 1e-7, "maxiter": 1000},
            ).x  # fmt: skip
            deviance, slopes, fitted = profile.solved(ratios)
            # At 0 the slope by a ratio is 0 whatever the likelihood: only a step away says whether it is the best.
            away = [ratios + step * one for one in np.eye(len(ratios))[ratios**2 < _NIL] for step in _STEPS]
            better = min(away, key=lambda one: profile.solved(one)[0], default=ratios)
            left = profile.solved(better)[0] < deviance - _SAME
            converged = not left and bool((np.abs(slopes * ratios**2) < _FLAT).all())
            if converged:
                break
            ratios = better if left else ratios
    return fitted, converged or not factors


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
