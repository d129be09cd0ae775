"""A probe: space-filling trials in the same study as a sampler's, which the sampler never sees.

Importance read off a sampler's own trace is wrong more often than right, since the sampler went where scores were good.
A probe's points are scrambled Sobol points, fixed by the search's seed: the first N are the same in every run, so that
a probe can be resumed and made larger.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from harness.record.study import Record, is_beside, is_probe
from harness.samplers import QMC
from sam2lora.choice import digest


def points(space: Mapping[str, BaseDistribution], seed: int, count: int) -> list[dict[str, Any]]:
    """The first ``count`` points of the probe of ``space``, each as parameters by name.

    ``seed``: the search's; the sequence has one of its own, since a search by QMC would ask for the same points again.
    A point holds every parameter; where a condition leaves one out, it is not asked for.
    """
    own = int(digest("probe", seed), 16) % 2**32
    study = optuna.create_study(sampler=QMC().build(own, dict(space)))
    if count and space:
        study.tell(study.ask(dict(space)), 0.0)  # Optuna draws the first one at random; the sequence begins after it
    return [study.ask(dict(space)).params for _ in range(count)]


def book(trace: Record, seed: int) -> Record:
    """The record for whoever runs the probe: what a point does not settle is drawn at random from ``seed``.

    The sampler of ``trace`` is not asked, so that its generator stays where it was.
    """
    blind = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.load_study(study_name=trace.name, storage=trace.study._storage, sampler=blind)
    return replace(trace, study=study)


def missing(book: Record, wanted: Sequence[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """The points, by number, without an ending that stands and without a trial that an earlier run left open."""
    standing = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    there = {
        trial.user_attrs["point"]
        for trial in book.trials()
        if is_probe(trial) and trial.state in standing and "replicate" in trial.user_attrs
    }
    return {number: point for number, point in enumerate(wanted) if number not in there}


class Unaware(BaseSampler):
    """A sampler that is shown the study without its probe: what it proposes is what it would have proposed alone."""

    def __init__(self, sampler: BaseSampler) -> None:
        self.sampler = sampler

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The wrapped sampler's."""
        return self.sampler.infer_relative_search_space(_Trace.of(study), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The wrapped sampler's."""
        return self.sampler.sample_relative(_Trace.of(study), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The wrapped sampler's."""
        return self.sampler.sample_independent(_Trace.of(study), trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """The wrapped sampler's."""
        self.sampler.before_trial(_Trace.of(study), trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """The wrapped sampler's."""
        self.sampler.after_trial(_Trace.of(study), trial, state, values)

    def reseed_rng(self) -> None:
        """The wrapped sampler's."""
        self.sampler.reseed_rng()


class _Trace(optuna.Study):
    """A study without the trials of its probe and its references."""

    @classmethod
    def of(cls, study: optuna.Study) -> _Trace:
        trace = cls.__new__(cls)
        trace.__setstate__(study.__getstate__())  # the same storage and study, and a cache of its own
        return trace

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in super()._get_trials(deepcopy, states, use_cache) if not is_beside(trial)]
