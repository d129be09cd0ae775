"""Covariance matrix adaptation evolution strategy (Hansen 2016)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import optuna
from annotated_types import Ge
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler

from harness.samplers.seeding import resumed
from sam2lora.choice import choice


@choice
class CMAES:
    """Covariance matrix adaptation: for continuous parameters and budgets of hundreds of trials.

    ``startup``: trials drawn at random first. Categorical parameters are drawn at random throughout.
    """

    several_objectives: ClassVar[bool] = False
    kind: Literal["cmaes"] = "cmaes"
    startup: Annotated[int, Ge(1)] = 10

    def build(self, seed: int, space: dict[str, BaseDistribution], started: int = 0) -> BaseSampler:
        """Optuna's sampler, seeded."""
        return optuna.samplers.CmaEsSampler(
            n_startup_trials=self.startup, seed=resumed(seed, started), warn_independent_sampling=False
        )

    def limit(self, space: dict[str, BaseDistribution]) -> int | None:
        """None: there is always a next proposal."""
        return None
