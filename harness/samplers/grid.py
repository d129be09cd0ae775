"""Every combination of a grid, each once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import optuna
from annotated_types import Ge
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GridSampler
from optuna.trial import FrozenTrial, TrialState

from sam2lora.choice import choice


@choice
class Grid:
    """The full grid: every level of every parameter with every other, in an order shuffled by the seed.

    ``levels``: how many values stand for a numeric range, its ends included, equally spaced on the parameter's own
    (linear or logarithmic) scale. A categorical parameter, and an integer one with no more values than that, is
    taken whole. Conditional parameters are crossed with all the others, so combinations that differ only in a
    parameter that is not in force are recognised as the same trial and not trained twice.
    """

    several_objectives: ClassVar[bool] = True
    kind: Literal["grid"] = "grid"
    levels: Annotated[int, Ge(2)] = 4

    def build(self, seed: int, space: dict[str, BaseDistribution], started: int = 0) -> BaseSampler:
        """Optuna's grid sampler over the levels of ``space``; the seed numbers the cells: ``started`` plays no part."""
        return _AskedGrid(self.values(space), seed=seed)

    def limit(self, space: dict[str, BaseDistribution]) -> int | None:
        """The size of the grid."""
        return math.prod(len(values) for values in self.values(space).values())

    def values(self, space: dict[str, BaseDistribution]) -> dict[str, list[Any]]:
        """The levels of every parameter."""
        return {name: self._levels(distribution) for name, distribution in space.items()}

    def _levels(self, distribution: BaseDistribution) -> list[Any]:
        match distribution:
            case CategoricalDistribution():
                return list(distribution.choices)
            case FloatDistribution(low=low, high=high, log=log):
                spaced = np.geomspace(low, high, self.levels) if log else np.linspace(low, high, self.levels)
                return [min(max(float(value), low), high) for value in spaced]
            case IntDistribution(low=low, high=high, log=log, step=step):
                if (high - low) // step + 1 <= self.levels:
                    return list(range(low, high + 1, step))
                spaced = np.geomspace(low, high, self.levels) if log else np.linspace(low, high, self.levels)
                return sorted({low + step * round((value - low) / step) for value in spaced.tolist()})
            case _:
                raise TypeError(f"A grid needs a float, integer or categorical parameter, not {distribution!r}.")


class _AskedGrid(GridSampler):
    """Optuna's grid sampler for trials that are asked for: a cell is done once its trial has an outcome that stands.

    Optuna's numbers the cells as the trials, whatever else the study holds, takes a cell whose trial crashed as
    visited, and stops ``Study.optimize`` after the last one.
    """

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Give the trial the first cell that no other one has, which crashed and abandoned ones do not."""
        if "fixed_params" in trial.system_attrs:  # of a probe or a reference
            return
        others = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING))
        taken = {each.system_attrs.get("grid_id") for each in others if each.number != trial.number}
        cell = next((cell for cell in range(self._n_min_trials) if cell not in taken), 0)
        for name, value in (("search_space", self._search_space), ("grid_id", cell)):
            study._storage.set_trial_system_attr(trial._trial_id, name, value)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        return None
