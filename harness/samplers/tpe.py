"""Tree-structured Parzen estimator (Bergstra et al. 2011), multivariate."""

from __future__ import annotations

import warnings
from typing import Annotated, ClassVar, Literal

import optuna
from annotated_types import Ge
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler

from harness.samplers.seeding import resumed
from sam2lora.choice import choice


@choice
class TPE:
    """Tree-structured Parzen estimator: the default.

    ``startup``: trials drawn at random before the model speaks. Joint over all parameters (``multivariate``) and
    aware of what is still running (``constant_liar``), since several trials run at once.
    """

    several_objectives: ClassVar[bool] = True
    kind: Literal["tpe"] = "tpe"
    startup: Annotated[int, Ge(1)] = 10

    def build(self, seed: int, space: dict[str, BaseDistribution], started: int = 0) -> BaseSampler:
        """Optuna's sampler, seeded."""
        with warnings.catch_warnings():
            # `group` is what makes the joint model fit conditional spaces; it is marked experimental since 2021.
            warnings.simplefilter("ignore", ExperimentalWarning)
            return optuna.samplers.TPESampler(
                n_startup_trials=self.startup,
                multivariate=True,
                group=True,
                constant_liar=True,
                seed=resumed(seed, started),
            )

    def limit(self, space: dict[str, BaseDistribution]) -> int | None:
        """None: there is always a next proposal."""
        return None
