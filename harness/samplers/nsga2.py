"""Non-dominated sorting genetic algorithm II (Deb et al. 2002)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import optuna
from annotated_types import Ge
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler

from harness.samplers.seeding import resumed
from sam2lora.choice import choice


@choice
class NSGA2:
    """Genetic algorithm: for several objectives or for wide categorical spaces.

    ``population``: trials in one generation.
    """

    several_objectives: ClassVar[bool] = True
    kind: Literal["nsga2"] = "nsga2"
    population: Annotated[int, Ge(2)] = 20

    def build(self, seed: int, space: dict[str, BaseDistribution], started: int = 0) -> BaseSampler:
        """Optuna's sampler, seeded."""
        return optuna.samplers.NSGAIISampler(population_size=self.population, seed=resumed(seed, started))

    def limit(self, space: dict[str, BaseDistribution]) -> int | None:
        """None: there is always a next proposal."""
        return None
