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
from optuna.trial import FrozenTrial, TrialState

from harness.record.study import Record
from harness.record.trials import is_sampled
from harness.samplers import QMC
from sam2lora.choice import digest


def points(space: Mapping[str, BaseDistribution], seed: int, count: int) -> list[dict[str, Any]]:
    """The first ``count`` points of the probe of ``space``, each as parameters by name.

    ``seed``: the search's, from which the sequence derives another: a search by QMC would ask for the same points.
    A point holds every parameter; where a condition leaves one out, it is not asked for.
    """
    derived = int(digest("probe", seed), 16) % 2**32
    study = optuna.create_study(sampler=QMC().build(derived, dict(space)))
    if count and space:
        study.tell(study.ask(dict(space)), 0.0)  # Optuna draws the first one at random; the sequence begins after it
    return [study.ask(dict(space)).params for _ in range(count)]


def blind(record: Record, seed: int) -> Record:
    """The record for running the probe: what a point does not settle is drawn at random from ``seed``.

    The sampler of ``record`` is not asked, so that its generator stays where it was.
    """
    sampler = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.load_study(study_name=record.name, storage=record.study._storage, sampler=sampler)
    return replace(record, study=study)


def missing(record: Record, wanted: Sequence[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """The points, by number, without an outcome that stands and without a trial that an earlier run left open."""
    there = {trial.point for trial in record.trials() if trial.stands or trial.resumable}
    return {number: point for number, point in enumerate(wanted) if number not in there}


def unaware(record: Record) -> Record:
    """The record for running the search: its sampler proposes what it would without a probe and references."""
    return replace(record, study=_Unaware.of(record.study))


class _Unaware(optuna.Study):
    """A study that shows its sampler the trials of a search alone, none of a probe and no reference."""

    @classmethod
    def of(cls, study: optuna.Study) -> _Unaware:
        unaware = cls.__new__(cls)
        unaware.__setstate__(study.__getstate__())  # the same storage, study and sampler, and a separate cache
        return unaware

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in super()._get_trials(deepcopy, states, use_cache) if is_sampled(trial)]
