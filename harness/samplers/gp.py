"""Gaussian process with expected improvement."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import optuna
from annotated_types import Ge
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler

from harness.samplers.seeding import resumed
from sam2lora.choice import choice


@choice
class GP:
    """Gaussian process: sample-efficient for a few dozen trials of mostly continuous parameters.

    ``startup``: trials drawn at random before the model speaks.
    """

    several_objectives: ClassVar[bool] = True
    kind: Literal["gp"] = "gp"
    startup: Annotated[int, Ge(1)] = 10

    def build(self, seed: int, space: dict[str, BaseDistribution], started: int = 0) -> BaseSampler:
        """Optuna's sampler, seeded."""
        return optuna.samplers.GPSampler(
            n_startup_trials=self.startup, deterministic_objective=False, seed=resumed(seed, started)
        )

    def limit(self, space: dict[str, BaseDistribution]) -> int | None:
        """None: there is always a next proposal."""
        return None
