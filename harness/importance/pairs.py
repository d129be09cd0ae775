"""Importance of pairs of settings: what a pair explains beyond its two settings, by `harness.importance.forest`.

A tree that climbs two separate slopes branches on one below the other, and so seems to know of a joint effect where
there is none: in simulations of 40 trials with two separate effects, a quarter to a half of the pairs of these were
above what shuffled scores reach. Chance is therefore the larger of two reaches: that of shuffled scores, and that of
separate effects alone, whose remainders are shuffled (Freedman and Lane 1983; the separate effects are boosted from
trees of one split, Friedman 2001). Both are those of the largest of all pairs, so that the chance of one or more pairs
without a joint effect above it is 5 %. Joint effects that a few dozen trials can show are large ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from optuna.distributions import BaseDistribution

from harness.importance.fanova import Fanova
from harness.importance.forest import Points, forest_measure, points
from harness.importance.resampling import ALPHA, COLUMNS, CONSTANT, Array, level, reach, resample, varying
from harness.record.table import completed_trials

MINIMUM = 30
"""Completed trials with both settings, below which no pair is shown."""
PAIR_COLUMNS = ("first", "second", *COLUMNS[1:])
"""As in `harness.importance.resampling`; ``present``: trials that had both settings; ``n``: trials that were used."""

Pair = tuple[str, str]


def pairs(
    how: Fanova,
    trials: pd.DataFrame,
    rng: np.random.Generator,
    distributions: Mapping[str, BaseDistribution],
    *,
    blind: bool,
) -> pd.DataFrame:
    """A row for every pair of settings, `PAIR_COLUMNS`, from the completed rows of ``trials``, the largest share first.

    ``blind``: whether the trials were chosen without regard to scores; others get no chance level.

    Settings that only some trials have are measured among the trials that have both, where these are 30 or more, and
    are given no rank, since their shares are of the variance among those trials. Refused, with the reason in ``note``:
    pairs with fewer trials, a pair with a constant, and two weights of one simplex, which cannot be varied apart.
    """
    sample = completed_trials(trials)
    there = {name: sample[name].notna().to_numpy() for name in distributions}
    alike: dict[bytes, list[Pair]] = {}
    rows = []
    for pair in combinations(sorted(distributions), 2):
        together = there[pair[0]] & there[pair[1]]
        if why := _refusal(sample[together], pair, len(sample), distributions):
            rows.append(_refused(pair, len(sample), int(together.sum()), why))
        else:
            alike.setdefault(together.tobytes(), []).append(pair)
    for mask, couples in alike.items():
        there_are = sample[np.frombuffer(mask, dtype=bool)]
        alpha = ALPHA / len(alike) if blind else None
        rows.append(_among(how, there_are, len(sample), rng, distributions, couples, alpha))
    if not rows:
        return _frame(pd.DataFrame(columns=list(PAIR_COLUMNS)))
    return _frame(pd.concat([frame.astype(object) for frame in rows], ignore_index=True))


def _refusal(sample: pd.DataFrame, pair: Pair, trials: int, spreads: Mapping[str, BaseDistribution]) -> str:
    """Why nothing can be said of ``pair`` from ``sample``, the trials that have both; empty if something can."""
    if len(sample) < MINIMUM:
        together = f", both are in {len(sample)} of them" if len(sample) < trials else ""
        return f"needs {MINIMUM} completed trials that have both, there are {trials}{together}"
    if all(name.startswith("weight/") for name in pair):
        return "weights of one simplex: one rises only where the others fall"
    return CONSTANT if len(varying(sample, {name: spreads[name] for name in pair})) < 2 else ""


def _among(
    how: Fanova,
    sample: pd.DataFrame,
    trials: int,
    rng: np.random.Generator,
    distributions: Mapping[str, BaseDistribution],
    couples: list[Pair],
    alpha: float | None,
) -> pd.DataFrame:
    """The rows of ``couples``, all of whose settings every trial of ``sample`` has; ``alpha``: of their chance."""
    whole = {name: spread for name, spread in distributions.items() if sample[name].notna().all()}
    spreads = dict(sorted(varying(sample, whole).items()))
    names = list(spreads)
    where = points(sample, spreads)
    indices = [(names.index(first), names.index(second)) for first, second in couples]
    measure = (
        forest_measure(where, indices, how.trees, rng),
        forest_measure(where, indices, how.resample_trees, rng),
    )
    scores = sample["value"].to_numpy(dtype=float)
    labels = [" x ".join(pair) for pair in couples]
    frame = resample(scores, labels, measure, rng, how.bootstraps)
    if alpha is not None:
        shuffles = max(how.shuffles, math.ceil(2 / alpha) - 1)  # enough for a p of alpha
        nulls = (np.full(len(scores), scores.mean()), _separate(where, scores))
        reaches = [reach(scores, len(couples), measure[1], null, rng, shuffles).max(axis=1) for null in nulls]
        frame["chance"] = max(level(largest, alpha) for largest in reaches)
    frame = frame.drop(columns="parameter").assign(present=len(sample), note="")
    if len(sample) < trials:
        frame[["rank", "keeps_rank", "is_first"]] = np.nan
        frame = frame.assign(note=f"among the {len(sample)} of {trials} trials that have both")
    return frame.assign(first=[pair[0] for pair in couples], second=[pair[1] for pair in couples])


def _separate(where: Points, scores: Array) -> Array:
    """What the best sum of single effects makes of every trial (trials,)."""
    # Imported here: it takes seconds to load.
    from sklearn.ensemble import GradientBoostingRegressor

    boosted = GradientBoostingRegressor(max_depth=1, random_state=0).fit(where.values, scores)
    expected: Array = boosted.predict(where.values)
    return expected


def _refused(pair: Pair, n: int, present: int, note: str) -> pd.DataFrame:
    return pd.DataFrame([pair], columns=["first", "second"]).assign(n=n, present=present, note=note)


def _frame(rows: pd.DataFrame) -> pd.DataFrame:
    frame = rows.reindex(columns=list(PAIR_COLUMNS))
    figures = ["importance", "low", "high", "chance", "keeps_rank", "is_first"]
    kinds = dict.fromkeys(figures, "float64") | {"rank": "Int64", "n": "int64", "present": "int64"}
    frame = frame.astype(kinds)
    order = frame.assign(less=-frame["importance"]).sort_values(["less", "first", "second"], na_position="last")
    return frame.loc[order.index].reset_index(drop=True)
