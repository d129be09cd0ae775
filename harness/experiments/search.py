"""A search, as a frozen value. Its space is a function ``(optuna.Trial) -> TrialConfig``, define-by-run."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.constraints import Constraint
from harness.experiments.space import Space
from harness.record.objectives import DIRECTIONS, Objective
from harness.samplers import TPE, Sampler
from harness.schedulers import ASHA, Scheduler
from sam2lora.config import Replicate, TrialConfig


@dataclass(frozen=True)
class Search:
    """A search: the space of settings, how many trials, the sampler that proposes them, the scheduler that stops them.

    ``objectives`` are what the sampler sees, and the first, which a scheduler sees too, is the mean Dice over the
    validation images of the sources, averaged over sources. No target ever enters it. With further objectives the
    search is after a Pareto front: a trial that is stopped early has no place on one, so no scheduler may stop any.
    Settings that miss one of ``constraints`` are proposed, reported to the sampler and never trained. ``probe``: the
    number of further, space-filling trials, which the sampler never sees (`harness.execution.probe`).
    ``base``: the settings that the space starts from, its defaults; None takes ``sam2lora.defaults.BASE`` on the data
    sets, backbone, frame and epochs of the search. ``references``: whether the defaults and the frozen model are
    trained as well, to show what the search has gained (`harness.execution.references`).
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
            raise ValueError(f"A probe needs 0 trials or more, but probe is {self.probe}: raise it.")
        if self.objectives[:1] != ("val/dice",) or len(set(self.objectives)) < len(self.objectives):
            raise ValueError(
                f"The objectives must be distinct and begin with val/dice, but are {self.objectives}: "
                f"put val/dice first, then each of {', '.join(list(DIRECTIONS)[1:])} at most once."
            )
        given = [constraint.kind for constraint in self.constraints]
        if len(set(given)) < len(given):
            raise ValueError(
                f"A kind of constraint must be given once, but they are {', '.join(given)}: keep the tightest."
            )
        if len(self.objectives) > 1:
            self._check_pareto()

    def _check_pareto(self) -> None:
        """The conditions of a Pareto front on scheduler and sampler."""
        if self.scheduler.kind != "none":
            raise ValueError(
                f"A search with {len(self.objectives)} objectives must train every trial to its end, but the scheduler "
                f"{self.scheduler.kind} stops some: use --scheduler none."
            )
        if not self.sampler.several_objectives:
            raise ValueError(
                f"A search with {len(self.objectives)} objectives needs a sampler for several objectives, but "
                f"{self.sampler.kind} has one: use --sampler tpe, nsga2, gp, random, qmc or grid."
            )
