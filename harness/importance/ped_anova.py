"""PED-ANOVA: which parameters tell the best trials from the others (Watanabe et al., IJCAI 2023, arXiv 2304.10255).

The density of a parameter's values among the best trials is compared with its density among all trials by the Pearson
divergence. The conditional variant (arXiv 2601.20800) takes a parameter that some trials lack as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import BaseDistribution

from harness.importance.resampling import CONSTANT, finish, frozen, refused, resample, varying
from harness.table import Direction, measured

MINIMUM = 10
IN_QUANTILE = 5
"""Trials that the best quantile should hold for a stable answer, as Optuna's documentation advises."""


@dataclass(frozen=True, kw_only=True)
class PedAnova:
    """PED-ANOVA through Optuna's evaluator. ``quantile``: the share of the trials that counts as best."""

    kind: Literal["ped_anova"] = "ped_anova"
    quantile: float = 0.1
    bootstraps: int = 100
    shuffles: int = 50

    title = "PED-ANOVA"

    @property
    def question(self) -> str:
        """What its table answers."""
        return f"local: what separates the best {100 * self.quantile:.0f} % of the trials from all of them?"

    @property
    def needed(self) -> int:
        """Completed trials below which its table is shown but not to be trusted."""
        return math.ceil(IN_QUANTILE / self.quantile - 1e-9)

    def importance(
        self,
        trials: pd.DataFrame,
        rng: np.random.Generator,
        distributions: Mapping[str, BaseDistribution],
        direction: Direction,
    ) -> pd.DataFrame:
        """A table as in `harness.importance.resampling`, from the completed rows of ``trials``.

        Importances are divided by their sum; where all are zero they stay zero. Fewer than 10 completed trials are
        refused; fewer than `needed` are shown with ``trusted`` false.
        """
        sample = measured(trials)
        present = [int(sample[name].notna().sum()) for name in distributions]
        if len(sample) < MINIMUM:
            note = f"needs {MINIMUM} completed trials (and {self.needed} to be trusted), there are {len(sample)}"
            return refused(list(distributions), len(sample), present, note)
        if not distributions:
            return refused([], len(sample), [], "")
        evaluate = (self._shares, self._shares)
        known = frozen(sample, varying(sample, distributions))
        frame = resample(known, list(distributions), direction, evaluate, rng, self.bootstraps, self.shuffles)
        notes = [self._note(sample, name) for name in distributions]
        return finish(frame.assign(present=present, trusted=len(sample) >= self.needed, note=notes))

    def _shares(self, study: optuna.Study) -> Mapping[str, float]:
        # Imported here: it comes with scikit-learn, which takes seconds to load.
        from optuna.importance import PedAnovaImportanceEvaluator

        # Not get_param_importances: it would turn zeros throughout into equal shares.
        found = PedAnovaImportanceEvaluator(target_quantile=self.quantile).evaluate(study)
        total = sum(found.values())
        return {name: value / total for name, value in found.items()} if total > 0.0 else found

    def _note(self, sample: pd.DataFrame, name: str) -> str:
        few = f"needs {self.needed} completed trials, there are {len(sample)}" if len(sample) < self.needed else ""
        with_it = int(sample[name].notna().sum())
        partial = f"conditional: in {with_it} of {len(sample)} trials" if with_it < len(sample) else ""
        constant = CONSTANT if not partial and sample[name].nunique() == 1 else ""
        return "; ".join(filter(None, (few, partial, constant)))
