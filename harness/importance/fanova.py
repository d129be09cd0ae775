"""fANOVA: how much of the score's variance over the searched space one parameter explains alone (Hutter et al. 2014).

A random forest is fitted to the completed trials; the variance of its marginal prediction along one parameter, over the
total, is that parameter's importance. The shares of all parameters add up to at most 1; the rest are interactions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from optuna.distributions import BaseDistribution

from harness.importance.forest import forest_measure, points
from harness.importance.regression import explain
from harness.importance.resampling import CONSTANT, Array, Measure, finish, refused, resample, step_down, varying
from harness.record.table import Direction, completed_trials

MINIMUM = 10


@dataclass(frozen=True, kw_only=True)
class Fanova:
    """fANOVA by `harness.importance.forest`; of pairs, by `harness.importance.pairs`.

    ``trees`` grow the forest of the estimate, ``resample_trees`` those of each bootstrap and shuffle (the share is an
    average over trees, so fewer of them cost precision, not level). 60 trials of 6 parameters take 2 s of one core.
    """

    kind: Literal["fanova"] = "fanova"
    trees: int = 64
    resample_trees: int = 16
    bootstraps: int = 50
    shuffles: int = 39

    title = "fANOVA"
    question = "global, over the space as sampled: what share of the score's variance does a setting explain alone?"

    def importance(
        self,
        trials: pd.DataFrame,
        rng: np.random.Generator,
        distributions: Mapping[str, BaseDistribution],
        direction: Direction,
        *,
        blind: bool,
    ) -> pd.DataFrame:
        """A table as in `harness.importance.resampling`, from the completed rows of ``trials``.

        ``blind``: whether the trials were chosen without regard to scores; others get no chance level.

        Parameters searched on a logarithmic scale are measured on that scale, as they were sampled. A parameter that
        some trials lack because of a condition is refused, since a forest needs every parameter of every trial. Fewer
        than 10 completed trials are refused altogether. A share has no direction.
        """
        sample = completed_trials(trials)
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
        return finish(pd.concat([self._joint(sample, rng, joint, blind), *conditional]))

    def _joint(
        self,
        sample: pd.DataFrame,
        rng: np.random.Generator,
        distributions: Mapping[str, BaseDistribution],
        blind: bool,
    ) -> pd.DataFrame:
        if not distributions:
            return refused([], len(sample), [], "")
        varied = dict(sorted(varying(sample, distributions).items()))
        found = [list(distributions).index(name) for name in varied]
        where = points(sample, varied)

        def among_all(how: Measure) -> Measure:
            def measure(picked: npt.NDArray[np.int64], scores: Array) -> Array:
                importance = np.zeros(len(distributions))
                importance[found] = how(picked, scores) if found else 0.0
                return importance

            return measure

        measure = (
            among_all(forest_measure(where, (), self.trees, rng)),
            among_all(forest_measure(where, (), self.resample_trees, rng)),
        )
        scores = sample["value"].to_numpy(dtype=float)
        frame = resample(scores, list(distributions), measure, rng, self.bootstraps)
        if blind:
            estimate = frame["importance"].to_numpy(dtype=float)
            stronger = explain(sample, distributions)
            frame["chance"] = step_down(scores, estimate, measure[1], stronger, rng, self.shuffles)
        notes = ["" if name in varied else CONSTANT for name in distributions]
        return frame.assign(present=len(sample), note=notes)
