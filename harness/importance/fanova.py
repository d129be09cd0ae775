"""fANOVA: how much of the score's variance over the searched space one parameter explains alone (Hutter et al. 2014).

A random forest is fitted to the completed trials; the variance of its marginal prediction along one parameter, over the
total, is that parameter's importance. The shares of all parameters add up to at most 1; the rest are interactions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from harness.importance.resampling import CONSTANT, Evaluate, finish, frozen, refused, resample, varying
from harness.table import Direction, measured

MINIMUM = 10


@dataclass(frozen=True, kw_only=True)
class Fanova:
    """fANOVA through Optuna's evaluator.

    ``trees`` grow the forest of the estimate, ``resample_trees`` those of each bootstrap and shuffle (the share is an
    average over trees, so fewer of them cost precision, not level). 60 trials of 6 parameters take 6 s on one core.
    """

    kind: Literal["fanova"] = "fanova"
    trees: int = 64
    resample_trees: int = 16
    bootstraps: int = 50
    shuffles: int = 30

    title = "fANOVA"
    question = "global, over the searched space as sampled: what share of the score's variance does it explain alone?"

    def importance(
        self,
        trials: pd.DataFrame,
        rng: np.random.Generator,
        distributions: Mapping[str, BaseDistribution],
        direction: Direction,
    ) -> pd.DataFrame:
        """A table as in `harness.importance.resampling`, from the completed rows of ``trials``.

        Parameters searched on a logarithmic scale are measured on that scale, as they were sampled. (Optuna's own
        command measures them on the linear one, where a learning rate's lower decades have no extent.) A parameter
        that some trials lack because of a condition is refused, since a forest needs every parameter of every trial.
        Fewer than 10 completed trials are refused altogether.
        """
        sample = measured(trials)
        present = {name: int(sample[name].notna().sum()) for name in distributions}
        if len(sample) < MINIMUM:
            note = f"needs {MINIMUM} completed trials, there are {len(sample)}"
            return refused(list(distributions), len(sample), list(present.values()), note)
        partial = [name for name in distributions if present[name] < len(sample)]
        joint = {name: spread for name, spread in distributions.items() if name not in partial}
        conditional = [
            refused([name], len(sample), [present[name]], f"conditional: in {present[name]} of {len(sample)} trials")
            for name in partial
        ]
        return finish(pd.concat([self._joint(sample, rng, joint, direction), *conditional]))

    def _joint(
        self,
        sample: pd.DataFrame,
        rng: np.random.Generator,
        distributions: Mapping[str, BaseDistribution],
        direction: Direction,
    ) -> pd.DataFrame:
        if not distributions:
            return refused([], len(sample), [], "")
        scaled, spreads = _as_sampled(sample, varying(sample, distributions))
        evaluate = (self._evaluator(rng, self.trees), self._evaluator(rng, self.resample_trees))
        trials = frozen(scaled, spreads)
        frame = resample(trials, list(distributions), direction, evaluate, rng, self.bootstraps, self.shuffles)
        notes = ["" if name in spreads else CONSTANT for name in distributions]
        return frame.assign(present=len(sample), trusted=True, note=notes)

    @staticmethod
    def _evaluator(rng: np.random.Generator, trees: int) -> Evaluate:
        # Imported here: scikit-learn takes seconds to load, and a report prints its first tables before it is needed.
        from optuna.importance import FanovaImportanceEvaluator

        def evaluate(study: optuna.Study) -> Mapping[str, float]:
            forest = FanovaImportanceEvaluator(n_trees=trees, seed=int(rng.integers(2**31)))
            return forest.evaluate(study)

        return evaluate


def _as_sampled(
    sample: pd.DataFrame, distributions: Mapping[str, BaseDistribution]
) -> tuple[pd.DataFrame, dict[str, BaseDistribution]]:
    spreads = dict(distributions)
    columns = {}
    for name, spread in distributions.items():
        if getattr(spread, "log", False) and not spread.single():
            numeric = cast(FloatDistribution | IntDistribution, spread)
            spreads[name] = FloatDistribution(math.log10(numeric.low), math.log10(numeric.high))
            columns[name] = np.log10(sample[name].astype(float))
    return sample.assign(**columns), spreads
