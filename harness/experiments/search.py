"""Search: a question, frozen. Its space is a function ``(optuna.Trial) -> TrialConfig``, define-by-run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, distribution_to_json

from harness.constraints import Constraint
from harness.record.objectives import DIRECTIONS, Objective
from harness.samplers import CMAES, TPE, Sampler
from harness.schedulers import ASHA, Scheduler
from sam2lora.backbones import Backbone
from sam2lora.choice import digest, to_json
from sam2lora.commands.asked import Asked, on
from sam2lora.config import Replicate, TrialConfig

Space = Callable[[optuna.Trial], TrialConfig]

_DRAWS = 64


@dataclass(frozen=True)
class Search:
    """A search: which settings to draw, how many, who proposes them and who stops them.

    ``objectives`` are what the sampler sees, and the first, which a scheduler sees too, is the mean Dice over the
    validation images of the sources, averaged over sources. No target ever enters it. With further objectives the
    search is after a Pareto front: a trial that is stopped early has no place on one, so no scheduler may stop any.
    Settings that miss one of ``constraints`` are proposed, told to the sampler and never trained. ``probe``: how many
    space-filling trials there are beside those of the sampler, which never sees them (`harness.execution.probe`).
    ``base``: the settings that the space starts from, its defaults; None takes ``sam2lora.base.BASE`` on the data sets,
    backbone, frame and epochs of the search. ``references``: whether the defaults and the frozen model are trained
    beside the search, to show what it has gained (`harness.execution.references`).
    """

    space: Space
    trials: int
    sampler: Sampler = field(default_factory=TPE)
    scheduler: Scheduler = field(default_factory=ASHA)
    objectives: tuple[Objective, ...] = ("val/dice",)
    constraints: tuple[Constraint, ...] = ()
    replicate: Replicate = field(default_factory=Replicate)
    probe: int = 0
    base: TrialConfig | None = None
    references: bool = True

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"A search needs one trial or more, but trials is {self.trials}: raise it.")
        if self.probe < 0:
            raise ValueError(f"A probe has no fewer than 0 trials, but probe is {self.probe}: raise it.")
        if self.objectives[:1] != ("val/dice",) or len(set(self.objectives)) < len(self.objectives):
            raise ValueError(
                f"The objectives must be distinct and begin with val/dice, but are {self.objectives}: "
                f"put val/dice first, then each of {', '.join(list(DIRECTIONS)[1:])} at most once."
            )
        named = [constraint.kind for constraint in self.constraints]
        if len(set(named)) < len(named):
            raise ValueError(
                f"A kind of constraint must be given once, but they are {', '.join(named)}: keep the tightest."
            )
        if len(self.objectives) > 1:
            self._check_several()

    def _check_several(self) -> None:
        """What a Pareto front needs of scheduler and sampler."""
        if self.scheduler.kind != "none":
            raise ValueError(
                f"A search with {len(self.objectives)} objectives must train every trial to its end, but the scheduler "
                f"{self.scheduler.kind} stops some: use --scheduler none."
            )
        if isinstance(self.sampler, CMAES):
            raise ValueError(
                f"A search with {len(self.objectives)} objectives needs a sampler that weighs several, but cmaes knows "
                f"one: use --sampler tpe, nsga2, gp, random, qmc or grid."
            )


@dataclass(frozen=True)
class Overrides:
    """What the command line says in place of the declaration; None leaves the declared value."""

    asked: Asked = field(default_factory=Asked)
    backbone: Backbone | None = None
    epochs: int | None = None
    image_size: int | None = None

    def apply(self, config: TrialConfig) -> TrialConfig:
        """``config`` with the overrides in place. Raises as ``Asked.model`` does.

        What a U-Net in place of a SAM 2 cannot do, such as prompts, is refused by ``TrialConfig``.
        """
        config = replace(config, protocol=self.asked.model(config.protocol))
        if self.backbone is not None:
            config = on(config, self.backbone)
        if self.epochs is not None:
            config = replace(config, epochs=self.epochs)
        if self.image_size is not None:
            config = replace(config, image_size=self.image_size)
        return config


def draws(space: Space, count: int = _DRAWS) -> list[tuple[TrialConfig, optuna.trial.FrozenTrial]]:
    """``count`` seeded random samples of a space: what it can ask for, without any of its trials being run."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = []
    for _ in range(count):
        trial = study.ask()
        config = space(trial)
        drawn.append((config, study.trials[trial.number]))
    return drawn


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Every parameter that the draws met, by name, sorted."""
    met: dict[str, BaseDistribution] = {}
    for _, trial in draws(space):
        met |= trial.distributions
    return dict(sorted(met.items()))


def fingerprint(space: Space) -> str:
    """The identity of what a space asks: equal for equal parameters and settings, whatever its source text."""
    asked = [
        (to_json(config), {name: distribution_to_json(d) for name, d in sorted(trial.distributions.items())})
        for config, trial in draws(space)
    ]
    return digest(asked)


def question(name: str, search: Search, overrides: Overrides, materials: Mapping[str, str]) -> dict[str, Any]:
    """Whatever decides what a study's numbers mean, as JSON: two studies with equal questions may share a record.

    Devices, folders, the number of workers and the number of trials are not part of it.
    """
    typical = overrides.apply(draws(search.space, 1)[0][0])
    return {
        "search": name,
        "space": fingerprint(search.space),
        "sources": [dataset.name for dataset in typical.protocol.sources],
        "targets": [dataset.name for dataset in typical.protocol.targets],
        "protocol": json.loads(to_json(typical.protocol)),
        "backbone": json.loads(to_json(typical.backbone)),
        "image_size": typical.image_size,
        "epochs": typical.epochs,
        "sampler": json.loads(to_json(search.sampler)),
        "scheduler": json.loads(to_json(search.scheduler)),
        "objectives": list(search.objectives),
        "directions": [DIRECTIONS[name] for name in search.objectives],
        "constraints": [json.loads(to_json(constraint)) for constraint in search.constraints],
        "seed": search.replicate.seed,
        "fold": search.replicate.fold,
        "materials": dict(sorted(materials.items())),
    }
