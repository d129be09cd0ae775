"""What every importance shares: its table, a bootstrap over the trials, and how far chance reaches.

The columns of an importance table (`COLUMNS`):

- ``parameter``: column of the trials (``param/NAME`` or ``weight/KIND``); ``importance``: the estimate on all trials,
  NaN where it was refused (``note`` says why);
- ``low``, ``high``: 95 % percentile interval over bootstraps of the trials, widened to hold the estimate (resampling
  repeats trials, which biases both evaluators, so the plain interval may miss it);
- ``n``: trials used; ``present``: those that had the parameter;
- ``chance``: 95th percentile after the scores were shuffled over the trials: an importance below it is no evidence
  (of pairs, the larger of that and of the same where there are single effects but no joint one);
- ``rank``: 1 is the largest; ``keeps_rank``: share of bootstraps with that rank; ``is_first``: share in which it is the
  largest; both NaN where all importances are zero, since then there is no order;
- ``trusted``: whether there were enough trials; ``note``: what a reader must know, empty if nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from optuna.distributions import BaseDistribution

Array = npt.NDArray[np.float64]
Measure = Callable[[npt.NDArray[np.int64], Array], Array]
"""Importances (P,) of the trials with these rows (repeats allowed) and these scores, one for each row picked."""

COLUMNS = (
    "parameter",
    "importance",
    "low",
    "high",
    "n",
    "present",
    "chance",
    "rank",
    "keeps_rank",
    "is_first",
    "trusted",
    "note",
)


def varying(sample: pd.DataFrame, distributions: Mapping[str, BaseDistribution]) -> dict[str, BaseDistribution]:
    """The distributions of parameters that took more than one value, or that some trials lack.

    A constant explains nothing. PED-ANOVA would yet give it some importance, since the smoothness of its density
    depends on how many trials there are.
    """
    return {
        name: spread
        for name, spread in distributions.items()
        if sample[name].nunique() > 1 or sample[name].isna().any()
    }


CONSTANT = "constant: one value in all trials"


def resample(
    scores: Array,
    parameters: Sequence[str],
    measure: tuple[Measure, Measure],
    rng: np.random.Generator,
    bootstraps: int,
    shuffles: int,
    expected: Array | None = None,
) -> pd.DataFrame:
    """Importance of ``parameters`` with its interval, its level of chance and the stability of its rank.

    ``scores`` (trials,); ``measure``: how the estimate is made and a cheaper way (or the same) for the resamples;
    ``expected`` (trials,): scores without the effects that are asked for, to which what is left of the scores is added
    in random order as a second way to be wrong; chance is then the larger of the two. Scores that are all equal give
    zeros throughout: nothing varied, so nothing can have mattered.
    """

    def importance(how: Measure, picked: npt.NDArray[np.int64], values: Array) -> Array:
        return np.zeros(len(parameters)) if np.ptp(values) == 0.0 else how(picked, values)

    whole = np.arange(len(scores))
    estimate = importance(measure[0], whole, scores)
    draws = [rng.integers(len(scores), size=len(scores)) for _ in range(bootstraps)]
    boots = np.array([importance(measure[1], picked, scores[picked]) for picked in draws])
    nulls = [np.zeros(len(scores))] + ([] if expected is None else [expected])
    shuffled = [
        [importance(measure[1], whole, null + rng.permutation(scores - null)) for _ in range(shuffles)]
        for null in nulls
    ]
    return _summary(parameters, estimate, boots, np.quantile(shuffled, 0.95, axis=1).max(axis=0)).assign(n=len(scores))


def _summary(parameters: Sequence[str], estimate: Array, boots: Array, chance: Array) -> pd.DataFrame:
    low, high = np.quantile(boots, [0.025, 0.975], axis=0)
    rank = _ranks(estimate[None])[0]
    ordered = np.any(estimate > 0.0)
    boot_ranks = _ranks(boots)
    return pd.DataFrame(
        {
            "parameter": list(parameters),
            "importance": estimate,
            "low": np.minimum(low, estimate),
            "high": np.maximum(high, estimate),
            "chance": chance,
            "rank": rank,
            "keeps_rank": (boot_ranks == rank).mean(axis=0) if ordered else np.nan,
            "is_first": (boot_ranks == 1).mean(axis=0) if ordered else np.nan,
        }
    )


def _ranks(importances: Array) -> npt.NDArray[np.int64]:
    """Ranks ``(B, P)`` from 1, the largest first; equal importances share the better rank."""
    larger: npt.NDArray[np.int64] = np.sum(importances[:, None, :] > importances[:, :, None], axis=2)
    return 1 + larger


def refused(parameters: Sequence[str], n: int, present: Sequence[int], note: str) -> pd.DataFrame:
    """The table of an importance that cannot be told: every figure is NaN and ``note`` says what is missing."""
    frame = pd.DataFrame({"parameter": list(parameters), "n": n, "present": list(present), "note": note})
    return finish(frame.assign(trusted=False))


def finish(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame`` with all of `COLUMNS`, the most important parameter first, equal ones by name."""
    frame = frame.reindex(columns=COLUMNS)
    frame["rank"] = frame["rank"].astype("Int64")
    return frame.sort_values(["rank", "parameter"], na_position="last", ignore_index=True)
