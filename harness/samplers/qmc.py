"""Scrambled Sobol points."""

from __future__ import annotations

import warnings
from typing import ClassVar, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler

from sam2lora.choice import choice


@choice
class QMC:
    """Quasi-Monte Carlo: space-filling and blind to results. Categorical parameters are drawn at random."""

    several_objectives: ClassVar[bool] = True
    kind: Literal["qmc"] = "qmc"

    def build(self, seed: int, space: dict[str, BaseDistribution], started: int = 0) -> BaseSampler:
        """Optuna's sampler, seeded. The study remembers the next point, so a resumed sequence continues there."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # the sampler has been marked so since 2022
            return optuna.samplers.QMCSampler(
                scramble=True, seed=seed, warn_asynchronous_seeding=False, warn_independent_sampling=False
            )

    def limit(self, space: dict[str, BaseDistribution]) -> int | None:
        """None: there is always a next proposal."""
        return None
