"""Tuning curves: the best score after n trials of an arm's search, with bands that hold for all n at once.

An arm that needs a long search to shine differs from one that shines at once, though both end up alike; the curve shows
it. The bands are opda's (Lourie, Cho & He 2023, *Show your work with confidence*): simultaneous and distribution-free
for trials that are drawn independently of each other, as random search does. Trials of a sampler that learns (TPE, GP)
are not, and their curve is a description without a promise.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.stats.refusal import Refused

TUNING_COLUMNS = ("arm", "trials", "median", "low", "high", "mean", "mean_low", "mean_high", "n", "failed")
LEAST = 3
EXACT = 60
"""Trials up to which the band is that of Learned-Miller & DeStefano, tight where a curve ends; it is simulated, which
takes seconds at 60 and grows quadratically. Beyond, the band of Kolmogorov and Smirnov covers as well but is wider."""


@dataclass(frozen=True)
class Tuning:
    """``curves``: one row per arm and number of trials, `TUNING_COLUMNS`; ``refused``: arms with too few trials."""

    curves: pd.DataFrame
    refused: dict[str, Refused]


def tuning_curves(
    trials: pd.DataFrame,
    rng: np.random.Generator,
    bounds: tuple[float, float] = (0.0, 1.0),
    level: float = 0.95,
) -> Tuning:
    """The curves of every arm in ``trials``: one row per trial of an arm's search, columns ``arm`` and ``score``.

    A row of the result: after ``trials`` trials drawn like the arm's ``n``, the best score has this ``median`` and
    ``mean``; ``low`` and ``high`` hold the median, ``mean_low`` and ``mean_high`` the mean, of all numbers of trials at
    once: one band of the scores' distribution makes both, and it holds with probability ``level``. The curve ends at
    the ``n`` that were made. Higher scores are better, and all lie within ``bounds``, which are what the band opens to
    where the trials say nothing more: the mean's feels that at once, the median's where its quantile leaves the trials.
    A trial without a score (NaN: it failed) spent its budget: it counts as the lower bound, and in
    ``failed``. The band covers with at least ``level`` where scores tie.

    An arm with fewer than 3 trials is refused. Raises ``ValueError`` for a score outside ``bounds``.
    """
    rows, refused = [], {}
    for arm, part in trials.groupby("arm", sort=False):
        scores = part["score"].to_numpy(dtype=np.float64)
        if len(scores) < LEAST:
            value = f"{arm} has {len(scores)}"
            refused[str(arm)] = Refused(f"A tuning curve needs {LEAST} or more trials", value, "search longer")
            continue
        rows.append(_curve(str(arm), scores, rng, bounds, level))
    empty = pd.DataFrame(columns=list(TUNING_COLUMNS))
    return Tuning(pd.concat(rows, ignore_index=True) if rows else empty, refused)


def _curve(
    arm: str, scores: npt.NDArray[np.float64], rng: np.random.Generator, bounds: tuple[float, float], level: float
) -> pd.DataFrame:
    from opda.nonparametric import EmpiricalDistribution

    failed = np.isnan(scores)
    best = np.where(failed, bounds[0], scores)
    if best.min() < bounds[0] or best.max() > bounds[1]:
        raise ValueError(
            f"Scores must lie within {bounds}, but those of {arm} reach from {best.min()} to {best.max()}: "
            f"give the bounds of the metric."
        )
    method = "ld_equal_tailed" if len(best) <= EXACT else "ks"
    with warnings.catch_warnings():
        # With ties it covers more, not less: the counts at the values that occur are those of untied uniforms behind.
        warnings.filterwarnings("ignore", "Duplicates detected", RuntimeWarning)
        # One process: the default starts a pool of all cores for what takes a second.
        below, point, above = EmpiricalDistribution.confidence_bands(
            best, level, a=bounds[0], b=bounds[1], generator=rng, method=method, n_jobs=1
        )
    number = np.arange(1, len(best) + 1)
    return pd.DataFrame(
        {
            "arm": arm,
            "trials": number,
            "median": point.quantile_tuning_curve(number),
            "low": above.quantile_tuning_curve(number),
            "high": below.quantile_tuning_curve(number),
            "mean": point.average_tuning_curve(number),
            "mean_low": above.average_tuning_curve(number),
            "mean_high": below.average_tuning_curve(number),
            "n": len(best),
            "failed": int(failed.sum()),
        }
    )
