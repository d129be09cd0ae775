"""The common part of all importance measures: the table, a bootstrap over the trials, and the level of chance.

The columns of an importance table (`COLUMNS`):

- ``parameter``: column of the trials (``param/NAME`` or ``weight/KIND``); ``importance``: the estimate on all trials,
  NaN where it was refused (``note`` says why);
- ``low``, ``high``: the middle 95 % of what refits on bootstraps of the trials give, widened to hold the estimate. It
  shows how far the figure moves with the trials and is no confidence interval: resampling repeats trials, which biases
  both evaluators upwards, so that of settings without effect it holds the truth in hardly any study;
- ``n``: trials used; ``present``: those that had the parameter;
- ``chance``: the level that an importance must exceed to stand out. In 95 % of studies none of the settings without
  effect is above its level, those with one having theirs (`step_down`). NaN where trials were chosen by looking at
  scores, since no shuffle of the scores imitates a sampler that would have reacted to them; infinite where there are
  too few shuffles or trials;
- ``rank``: 1 is the largest; ``keeps_rank``: share of bootstraps with that rank; ``is_first``: share in which it is the
  largest; both NaN where all importances are zero, since then there is no order;
- ``note``: what a reader must know, empty if nothing.
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
Explain = Callable[[Sequence[int]], Array | None]
"""What settings of these numbers make of every trial's score (trials,); None with too few trials."""

COLUMNS = (
    *("parameter", "importance", "low", "high", "n", "present"),
    *("chance", "rank", "keeps_rank", "is_first", "note"),
)
ALPHA = 0.05


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
) -> pd.DataFrame:
    """Importance of ``parameters`` with its spread over refits and the stability of its rank; ``chance`` is NaN.

    ``scores`` (trials,); ``measure``: how the estimate is made and a cheaper way (or the same) for the resamples.
    """
    whole = np.arange(len(scores))
    estimate = _measured(measure[0], whole, scores, len(parameters))
    draws = [rng.integers(len(scores), size=len(scores)) for _ in range(bootstraps)]
    boots = np.array([_measured(measure[1], picked, scores[picked], len(parameters)) for picked in draws])
    return _summary(parameters, estimate, boots).assign(n=len(scores))


def _measured(how: Measure, picked: npt.NDArray[np.int64], values: Array, count: int) -> Array:
    """Scores that are all equal give zeros throughout: nothing varied, so nothing can have mattered."""
    return np.zeros(count) if np.ptp(values) == 0.0 else how(picked, values)


def reach(
    scores: Array, count: int, how: Measure, null: Array, rng: np.random.Generator, shuffles: int
) -> npt.NDArray[np.float64]:
    """Importances (shuffles, count) where scores are ``null`` (trials,) and the rest of them in random order.

    Freedman and Lane (1983, *Journal of Business & Economic Statistics* 1(4)).
    """
    whole = np.arange(len(scores))
    rest = scores - null
    return np.array([_measured(how, whole, null + rng.permutation(rest), count) for _ in range(shuffles)])


def level(largest: Array, alpha: float = ALPHA) -> float:
    """What a figure must be above to have p <= ``alpha`` among these of shuffles, itself counted as one of them.

    Infinite where there are too few shuffles for such a p.
    """
    allowed = int(alpha * (len(largest) + 1) + 1e-9)
    return float(np.sort(largest)[-allowed]) if allowed else np.inf


def step_down(
    scores: Array, estimate: Array, how: Measure, explain: Explain, rng: np.random.Generator, shuffles: int
) -> Array:
    """``chance`` of every setting (P,), found in steps (Romano and Wolf 2005, *JASA* 100).

    First all settings are compared with what they reach where scores are shuffled, each on the scale of its own spread,
    since chance gives a category less than a weight that falls where another rises. If one or more are above their
    levels, the one that is furthest above is found; then the others are compared with what they reach where what it
    explains stays and the remainder is shuffled; and so on, until none is above. A setting next to a strong one is
    thereby compared with what the strong one leaves unexplained.
    """
    chance, found = np.full(len(estimate), np.inf), list[int]()
    while len(found) < len(estimate):
        null = explain(found)
        if null is None:
            break
        drawn = reach(scores, len(estimate), how, null, rng, shuffles)
        left = [setting for setting in range(len(estimate)) if setting not in found]
        centre, spread = drawn.mean(axis=0), drawn.std(axis=0, ddof=1)
        highest = level(_apart(drawn)[:, left].max(axis=1))
        chance[left] = (centre + highest * spread)[left] if np.isfinite(highest) else np.inf
        beyond = np.where(spread > 0.0, (estimate - chance) / np.where(spread > 0.0, spread, 1.0), -np.inf)
        first = max(left, key=lambda setting: float(beyond[setting]))
        if not beyond[first] > 0.0:
            break
        found.append(first)
    return chance


def _apart(drawn: Array) -> Array:
    """How many spreads of the other shuffles each of ``drawn`` (shuffles, P) lies above their mean.

    Of the others, as an estimate is compared with shuffles that it is none of.
    """
    count = len(drawn) - 1
    centre = (drawn.sum(axis=0) - drawn) / count
    spread = np.sqrt(np.maximum(((drawn**2).sum(axis=0) - drawn**2) / count - centre**2, 0.0) * count / (count - 1))
    away = drawn - centre
    return np.where(spread > 0.0, away / np.where(spread > 0.0, spread, 1.0), np.where(away > 0.0, np.inf, 0.0))


def _summary(parameters: Sequence[str], estimate: Array, boots: Array) -> pd.DataFrame:
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
            "chance": np.nan,
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
    """The table of an importance that cannot be measured: every number is NaN and ``note`` gives the reason."""
    frame = pd.DataFrame({"parameter": list(parameters), "n": n, "present": list(present), "note": note})
    return finish(frame)


def finish(frame: pd.DataFrame) -> pd.DataFrame:
    """``frame`` with all of `COLUMNS`, the most important parameter first, equal ones by name."""
    frame = frame.reindex(columns=COLUMNS)
    frame["rank"] = frame["rank"].astype("Int64")
    return frame.sort_values(["rank", "parameter"], na_position="last", ignore_index=True)
