"""Independent uniform draws."""

from __future__ import annotations

from typing import ClassVar, Literal

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler

from harness.samplers.seeding import resumed
from sam2lora.choice import choice


@choice
class Random:
    """Independent draws from the space: the honest baseline, and the trace from which importance is read best."""

    several_objectives: ClassVar[bool] = True
    kind: Literal["random"] = "random"

    def build(self, seed: int, space: dict[str, BaseDistribution], started: int = 0) -> BaseSampler:
        """Optuna's sampler, seeded."""
        return optuna.samplers.RandomSampler(seed=resumed(seed, started))

    def limit(self, space: dict[str, BaseDistribution]) -> int | None:
        """None: there is always a next proposal."""
        return None
