"""Regression of the score on the settings: slope, curvature and presence of each, with adjusted p-values.

Trees assume no shape and need more trials for it: least squares assumes that most effects of settings are slopes or
hills, and detects smaller ones. Every setting is a block of columns of the same model: a number its slope
and its curvature over the searched range (on the scale it was searched on), a loss weight its presence as well, a
category an effect of each choice. A block is tested by the F-test of the model with it against the model without, and
the p-values are adjusted for their number (Holm 1979).

Loss weights add up to one, so no weight can be varied alone. The effect of one is of giving it room at the cost of the
others, as they were drawn: its block stands in a model with all other settings and without the other weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from scipy.special import fdtrc

from harness.importance.resampling import CONSTANT, Array, Explain
from harness.record.table import completed_trials
from harness.stats.multiplicity import adjust

SPARE = 5
"""Trials that a model must leave over for its noise."""
FEWEST = 3
"""Trials without a loss component, and with it, from which its presence has a column."""
REGRESSION_COLUMNS = ("parameter", "explains", "slope", "curvature", "presence", "p", "holm", "n", "present", "note")


@dataclass(frozen=True)
class Block:
    """The columns of one setting: ``values`` (trials, columns), each named, of slope, curvature, presence or choice."""

    values: Array
    names: tuple[str, ...]


def block(sample: pd.DataFrame, name: str, spread: BaseDistribution) -> Block:
    """The columns of the setting ``name`` in ``sample``; none for a constant.

    A number lies between -1 and 1 over its range, so that twice its slope is the change from one end to the other; its
    curvature is of the square. Where some trials lack the setting, a column says which, and it is 0 there.
    """
    there = sample[name].notna().to_numpy()
    columns: dict[str, Array] = {}
    if not there.all() and there.any():
        columns["there"] = there.astype(float)
    if isinstance(spread, CategoricalDistribution):
        seen = [choice for choice in spread.choices if (sample[name] == choice).any()]
        columns |= {f"choice {choice}": np.array(sample[name] == choice, dtype=float) for choice in seen[1:]}
    else:
        columns |= _number(sample[name][there].to_numpy(dtype=float), there, name, spread)
    values = np.column_stack(list(columns.values())) if columns else np.empty((len(sample), 0))
    return Block(values, tuple(columns))


def _number(values: Array, there: np.ndarray, name: str, spread: BaseDistribution) -> dict[str, Array]:
    numeric = cast(FloatDistribution | IntDistribution, spread)
    low, high, drawn = float(numeric.low), float(numeric.high), values
    if numeric.log:
        low, high, drawn = math.log(low), math.log(high), np.log(values)
    distinct = len(np.unique(values))
    if high <= low or distinct < 2:
        return {}
    place = np.zeros(len(there))
    place[there] = 2.0 * (drawn - low) / (high - low) - 1.0
    columns = {"slope": place}
    if distinct > 2:
        columns["curvature"] = np.where(there, place**2, 0.0)
    absent = int((values == 0.0).sum())
    if name.startswith("weight/") and FEWEST <= absent <= len(values) - FEWEST and distinct > 3:
        columns["presence"] = np.where(there, place > -1.0, False).astype(float)
    return columns


def explain(sample: pd.DataFrame, distributions: Mapping[str, BaseDistribution]) -> Explain:
    """The least squares fit of the scores by the blocks of settings, by their numbers in ``distributions``.

    What is left over is scaled up by the trials that the fit has used, so that it spreads as the noise does.
    """
    scores = sample["value"].to_numpy(dtype=float)
    blocks = [block(sample, name, spread).values for name, spread in distributions.items()]

    def expected(indices: Sequence[int]) -> Array | None:
        columns = np.column_stack([np.ones(len(scores)), *(blocks[index] for index in indices)])
        fitted = columns @ np.linalg.lstsq(columns, scores, rcond=None)[0]
        spare = len(scores) - np.linalg.matrix_rank(columns)
        if spare < SPARE:
            return None
        left: Array = (scores - fitted) * math.sqrt((len(scores) - 1) / spare)
        return np.asarray(scores - left)

    return expected


def regression(trials: pd.DataFrame, distributions: Mapping[str, BaseDistribution]) -> pd.DataFrame:
    """A row for every setting, `REGRESSION_COLUMNS`, from the completed rows of ``trials``, the smallest p first.

    ``explains``: the share of the scores' variance that its block explains beyond all others; ``slope``: the change of
    the score from one end of the searched range to the other; ``curvature``: how much lower (below 0: a hill) the
    middle lies than that line does at its ends, with its sign; ``presence``: what being there at all adds to a weight's
    line; ``p``: of the F-test; ``holm``: adjusted for all settings. NaN throughout, with the reason in ``note``, of a
    setting that did not vary, and of all where a model leaves fewer than `SPARE` trials for its noise. Trials must have
    been drawn without a look at scores; nothing is random.
    """
    sample = completed_trials(trials)
    names = list(distributions)
    blocks = {name: block(sample, name, distributions[name]) for name in names}
    rows = [_row(sample, name, blocks) for name in names]
    frame = pd.DataFrame(rows).reindex(columns=list(REGRESSION_COLUMNS))
    figures = ["explains", "slope", "curvature", "presence", "p", "holm"]
    frame[figures] = frame[figures].astype(float)
    tested = frame["p"].notna()
    frame.loc[tested, "holm"] = adjust(frame.loc[tested, "p"].to_numpy(dtype=float))
    return frame.sort_values(["p", "parameter"], na_position="last", ignore_index=True)


def _row(sample: pd.DataFrame, name: str, blocks: Mapping[str, Block]) -> dict[str, object]:
    n, own = len(sample), blocks[name]
    row: dict[str, object] = {"parameter": name, "n": n, "present": int(sample[name].notna().sum()), "note": ""}
    if not own.names:
        return row | {"note": CONSTANT}
    others = [
        blocks[other].values
        for other in blocks
        if other != name and not (name.startswith("weight/") and other.startswith("weight/"))
    ]
    without = np.column_stack([np.ones(n), *others])
    whole = np.column_stack([without, own.values])
    if n - np.linalg.matrix_rank(whole) < SPARE:
        return row | {"note": f"needs {whole.shape[1] + SPARE} completed trials, there are {n}"}
    scores = sample["value"].to_numpy(dtype=float)
    if np.ptp(scores) == 0.0:
        return row | {"note": "all scores are equal"}
    if np.linalg.matrix_rank(whole) == np.linalg.matrix_rank(without):
        return row | {"note": "varied only together with other settings"}
    (left, rank), (more, fewer) = _squares(whole, scores), _squares(without, scores)
    if left <= 1e-12 * more:
        return row | {"note": "the model leaves no noise"}
    f = (more - left) / (rank - fewer) / (left / (n - rank))
    effects = dict(zip(own.names, np.linalg.lstsq(whole, scores, rcond=None)[0][-len(own.names) :], strict=True))
    found = {part: float(effects.get(part, math.nan)) for part in ("slope", "curvature", "presence")}
    explains = float((more - left) / np.sum((scores - scores.mean()) ** 2))
    return (
        row
        | found
        | {"slope": 2.0 * found["slope"], "p": float(fdtrc(rank - fewer, n - rank, f)), "explains": explains}
    )


def _squares(columns: Array, scores: Array) -> tuple[float, int]:
    """The residual sum of squares of the scores, and the rank of the columns, since weights add up to one."""
    solved = np.linalg.lstsq(columns, scores, rcond=None)
    return float(np.sum((scores - columns @ solved[0]) ** 2)), int(solved[2])
