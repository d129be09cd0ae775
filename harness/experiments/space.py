"""A search space: a function from an Optuna trial to settings, and its parameters, known from seeded draws."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json

from sam2lora.choice import digest, to_json
from sam2lora.config import TrialConfig

Space = Callable[[optuna.Trial], TrialConfig]

_DRAWS = 64


@cache
def draws(space: Space) -> tuple[tuple[TrialConfig, optuna.trial.FrozenTrial], ...]:
    """`_DRAWS` seeded random samples of a space, each with its Optuna trial; none of them is run."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    configs = [space(study.ask()) for _ in range(_DRAWS)]
    return tuple(zip(configs, study.trials, strict=True))


def typical_settings(space: Space) -> TrialConfig:
    """Settings out of a space, for what all of its settings share."""
    return draws(space)[0][0]


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The distribution of every parameter that the draws met, by name, sorted."""
    met: dict[str, BaseDistribution] = {}
    for _, trial in draws(space):
        met |= trial.distributions
    return dict(sorted(met.items()))


def fingerprint(space: Space) -> str:
    """The identity of what the draws met: equal for equal parameters and settings, whatever the source text."""
    drawn = [
        (to_json(config), {name: distribution_to_json(d) for name, d in sorted(trial.distributions.items())})
        for config, trial in draws(space)
    ]
    return digest(drawn)
