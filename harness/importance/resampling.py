"""What every importance shares: a study rebuilt from the table, a bootstrap over its trials, a null by shuffling.

The columns of an importance table (`COLUMNS`):

- ``parameter``: column of the trials (``param/NAME`` or ``weight/KIND``); ``importance``: the estimate on all trials,
  NaN where it was refused (``note`` says why);
- ``low``, ``high``: 95 % percentile interval over bootstraps of the trials, widened to hold the estimate (resampling
  repeats trials, which biases both evaluators, so the plain interval may miss it);
- ``n``: trials used; ``present``: those that had the parameter;
- ``chance``: 95th percentile after the scores were shuffled over the trials: an importance below it is no evidence;
- ``rank``: 1 is the largest; ``keeps_rank``: share of bootstraps with that rank; ``is_first``: share in which it is the
  largest; both NaN where all importances are zero, since then there is no order;
- ``trusted``: whether there were enough trials; ``note``: what a reader must know, empty if nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from harness.table import Direction

Evaluate = Callable[[optuna.Study], Mapping[str, float]]
Array = npt.NDArray[np.float64]

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


def frozen(sample: pd.DataFrame, distributions: Mapping[str, BaseDistribution]) -> list[FrozenTrial]:
    """The rows of ``sample`` as completed Optuna trials. A missing parameter is left out of its trial."""
    rows = sample[["value", *distributions]].to_dict("records")
    return [_trial(row, distributions) for row in rows]


def _trial(row: Mapping[Any, Any], distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
    present = {name: spread for name, spread in distributions.items() if not pd.isna(row[name])}
    params = {name: _inside(row[name], spread) for name, spread in present.items()}
    return optuna.trial.create_trial(params=params, distributions=dict(present), value=float(row["value"]))


def _inside(value: Any, spread: BaseDistribution) -> Any:
    # A table keeps whole numbers of a parameter that some trials lack as floats.
    if isinstance(spread, optuna.distributions.IntDistribution):
        return int(value)
    return value.item() if isinstance(value, np.generic) else value


def resample(
    trials: Sequence[FrozenTrial],
    parameters: Sequence[str],
    direction: Direction,
    evaluate: tuple[Evaluate, Evaluate],
    rng: np.random.Generator,
    bootstraps: int,
    shuffles: int,
) -> pd.DataFrame:
    """Importance of ``parameters`` with its interval, its level of chance and the stability of its rank.

    A parameter that no trial carries has importance zero: callers leave out those that never varied (`varying`).
    ``evaluate``: the evaluator of the estimate and a cheaper one (or the same) of the resamples. Scores that are all
    equal give zeros throughout: nothing varied, so nothing can have mattered.
    """
    values = np.array([trial.value for trial in trials])

    def importance(how: Evaluate, picked: npt.NDArray[np.int64], scores: Array) -> Array:
        if np.ptp(scores) == 0.0:
            return np.zeros(len(parameters))
        found = how(_study([trials[index] for index in picked], scores, direction))
        return np.array([found.get(name, 0.0) for name in parameters])

    whole = np.arange(len(trials))
    with _quiet():
        estimate = importance(evaluate[0], whole, values)
        draws = [rng.integers(len(trials), size=len(trials)) for _ in range(bootstraps)]
        boots = np.array([importance(evaluate[1], picked, values[picked]) for picked in draws])
        shuffled = np.array([importance(evaluate[1], whole, rng.permutation(values)) for _ in range(shuffles)])
    return _summary(parameters, estimate, boots, shuffled).assign(n=len(trials))


def _study(trials: Sequence[FrozenTrial], scores: Array, direction: Direction) -> optuna.Study:
    study = optuna.create_study(direction=direction)
    study.add_trials(
        optuna.trial.create_trial(params=trial.params, distributions=trial.distributions, value=float(score))
        for trial, score in zip(trials, scores, strict=True)
    )
    return study


def _summary(parameters: Sequence[str], estimate: Array, boots: Array, shuffled: Array) -> pd.DataFrame:
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
            "chance": np.quantile(shuffled, 0.95, axis=0),
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


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's line per study and its remarks on ties, which the table's own columns carry."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=UserWarning, module="optuna")
            yield
    finally:
        optuna.logging.set_verbosity(before)
