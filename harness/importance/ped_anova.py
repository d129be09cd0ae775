"""PED-ANOVA: the parameters that distinguish the best trials from the others.

Watanabe et al., IJCAI 2023, arXiv 2304.10255: the density of a parameter's values among the best trials is compared
with its density among all trials by the Pearson divergence. The conditional variant (arXiv 2601.20800) takes a
parameter that some trials lack as it is.

It speaks of single parameters only. Neither paper estimates pairs, nor does Optuna: the density of two parameters at
once would have to be read off the five or ten best trials, and what a pair adds to its two divergences is a joint
effect only if the trials drew the two independently, which is not so in a sampler's trace.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from harness.importance.regression import explain
from harness.importance.resampling import CONSTANT, Array, finish, refused, resample, step_down, varying
from harness.record.table import Direction, completed_trials

IN_QUANTILE = 5
"""Trials that the best quantile should hold for a stable answer, as Optuna's documentation advises."""


@dataclass(frozen=True, kw_only=True)
class PedAnova:
    """PED-ANOVA through Optuna's evaluator. ``quantile``: the share of the trials that counts as best."""

    kind: Literal["ped_anova"] = "ped_anova"
    quantile: float = 0.1
    bootstraps: int = 100
    shuffles: int = 39

    title = "PED-ANOVA"

    @property
    def question(self) -> str:
        """The question that its table answers."""
        return f"local: what separates the best {100 * self.quantile:.0f} % of the trials from all of them?"

    @property
    def needed(self) -> int:
        """Completed trials below which nothing is shown."""
        return math.ceil(IN_QUANTILE / self.quantile - 1e-9)

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

        ``blind``: whether the trials were chosen without regard to scores; others get no chance level. Importances
        are divided by their sum; where all are zero they stay zero. Fewer completed trials than `needed` are refused.
        """
        sample = completed_trials(trials)
        present = [int(sample[name].notna().sum()) for name in distributions]
        if len(sample) < self.needed:
            note = f"needs {self.needed} completed trials, there are {len(sample)}"
            return refused(list(distributions), len(sample), present, note)
        if not distributions:
            return refused([], len(sample), [], "")
        known = _frozen(sample, varying(sample, distributions))
        scores = sample["value"].to_numpy(dtype=float)

        def measure(picked: npt.NDArray[np.int64], values: Array) -> Array:
            found = self._shares(_study([known[index] for index in picked], values, direction))
            return np.array([found.get(name, 0.0) for name in distributions])

        with _quiet():
            frame = resample(scores, list(distributions), (measure, measure), rng, self.bootstraps)
            if blind:
                estimate = frame["importance"].to_numpy(dtype=float)
                stronger = explain(sample, distributions)
                frame["chance"] = step_down(scores, estimate, measure, stronger, rng, self.shuffles)
        notes = [self._note(sample, name) for name in distributions]
        return finish(frame.assign(present=present, note=notes))

    def _shares(self, study: optuna.Study) -> Mapping[str, float]:
        # Imported here: it comes with scikit-learn, which takes seconds to load.
        from optuna.importance import PedAnovaImportanceEvaluator

        # Not get_param_importances: it would turn zeros throughout into equal shares.
        found = PedAnovaImportanceEvaluator(target_quantile=self.quantile).evaluate(study)
        total = sum(found.values())
        return {name: value / total for name, value in found.items()} if total > 0.0 else found

    def _note(self, sample: pd.DataFrame, name: str) -> str:
        with_it = int(sample[name].notna().sum())
        partial = f"conditional: in {with_it} of {len(sample)} trials" if with_it < len(sample) else ""
        constant = CONSTANT if not partial and sample[name].nunique() == 1 else ""
        return "; ".join(filter(None, (partial, constant)))


def _frozen(sample: pd.DataFrame, distributions: Mapping[str, BaseDistribution]) -> list[FrozenTrial]:
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


def _study(trials: Sequence[FrozenTrial], scores: Array, direction: Direction) -> optuna.Study:
    study = optuna.create_study(direction=direction)
    study.add_trials(
        optuna.trial.create_trial(params=trial.params, distributions=trial.distributions, value=float(score))
        for trial, score in zip(trials, scores, strict=True)
    )
    return study


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
