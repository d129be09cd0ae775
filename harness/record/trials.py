"""A trial as a record holds it, and the names of everything that it leaves there."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict, cast

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from harness.record.outcome import KIND_OF


class _Outcome(TypedDict, total=False):
    kind: str
    epoch: int
    why: str


class _Origin(TypedDict):
    study: str
    number: int


class Attributes(TypedDict, total=False):
    """The ``user_attrs`` of a trial, as JSON: the one list of their names. What they mean: `RecordedTrial`."""

    key: str
    config: str
    oracle_prompt: bool
    replicate: Mapping[str, int]
    outcome: _Outcome
    curve: Sequence[Mapping[str, float]]
    cost: Mapping[str, float]
    scores: Mapping[str, float]
    n_images: Mapping[str, int]
    roles: Mapping[str, str]
    validation: Mapping[str, float]
    undefined: Mapping[str, int] | None
    threshold: float | None
    files: Mapping[str, str] | None
    reused_from: int
    copied_from: _Origin
    probe: bool
    point: int
    reference: str


_AS_WRITTEN = Attributes.__annotations__.keys() - {"outcome", "copied_from"}
"""The attributes that are fields of `RecordedTrial` of the same name and value."""


@dataclass(frozen=True)
class RecordedTrial:
    """A trial as its record holds it. What an earlier version did not write is as if there were nothing to write.

    - ``number`` in its study; ``trial_id`` in its storage; ``state``, ``values``, ``params``, ``distributions``,
      ``constraints``: Optuna's; ``scores_by_epoch``: the validation scores that Optuna keeps, of one objective only;
      ``started``, ``finished``: local time;
    - ``key``: the digest of what it runs; ``config``: its settings as canonical JSON; both empty before it starts;
      ``replicate``: its seed and fold, written last: None until all that it runs is written; ``oracle_prompt``: whether
      its scores are reached with prompts from the ground truth, None where it does not say;
    - ``outcome``: the name of its kind (`harness.record.outcome.KIND_OF`), None while it is open: the attribute is
      written before the trial is closed, and only closing commits it; ``epoch``: the last one; ``why``: in words;
    - ``curve``: an entry for every epoch; ``cost``: seconds, MiB and counts; ``scores``, ``n_images``, ``roles``,
      ``validation``, ``undefined``, ``threshold``, ``files``: as of `harness.record.outcome.Completed`;
    - ``reused_from``: the number of the trial whose result it repeats; ``copied_from``: study and number of the trial
      whose result it took over;
    - ``cell``: the number of its combination where it is of a grid search, of ``cells`` combinations;
    - ``point``: the number of its point where it is of a probe (``probe``); ``reference``: its name where it is one.
    """

    number: int
    state: TrialState
    trial_id: int = -1
    values: tuple[float, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    distributions: Mapping[str, BaseDistribution] = field(default_factory=dict)
    constraints: Mapping[str, float] = field(default_factory=dict)
    scores_by_epoch: Mapping[int, float] = field(default_factory=dict)
    started: datetime | None = None
    finished: datetime | None = None
    key: str = ""
    config: str = ""
    oracle_prompt: bool | None = None
    replicate: Mapping[str, int] | None = None
    outcome: str | None = None
    epoch: int | None = None
    why: str = ""
    curve: Sequence[Mapping[str, float]] = ()
    cost: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    n_images: Mapping[str, int] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    validation: Mapping[str, float] = field(default_factory=dict)
    undefined: Mapping[str, int] | None = None
    threshold: float | None = None
    files: Mapping[str, str] | None = None
    reused_from: int | None = None
    copied_from: str | None = None
    probe: bool = False
    point: int | None = None
    reference: str | None = None
    cell: int | None = None
    cells: int = 0

    @classmethod
    def of(cls, trial: FrozenTrial) -> RecordedTrial:
        """The trial that Optuna gives."""
        written = cast(Attributes, trial.user_attrs)
        outcome: _Outcome = written.get("outcome") or {} if trial.state.is_finished() else {}
        origin = written.get("copied_from")
        return cls(
            number=trial.number,
            state=trial.state,
            trial_id=trial._trial_id,
            values=tuple(trial.values or ()),
            params=trial.params,
            distributions=trial.distributions,
            constraints=trial.constraints,
            scores_by_epoch=trial.intermediate_values,
            started=trial.datetime_start,
            finished=trial.datetime_complete,
            outcome=outcome.get("kind"),
            epoch=outcome.get("epoch"),
            why=outcome.get("why", ""),
            cell=trial.system_attrs.get("grid_id"),
            cells=math.prod(map(len, trial.system_attrs.get("search_space", {}).values())),
            copied_from="{study} {number}".format(**origin) if origin else None,
            **{name: value for name, value in trial.user_attrs.items() if name in _AS_WRITTEN},
        )

    @property
    def settings(self) -> dict[str, Any]:
        """``config`` as a dictionary, empty before the trial starts."""
        return dict(json.loads(self.config)) if self.config else {}

    @property
    def completed(self) -> bool:
        """Whether it has all its scores."""
        return self.outcome == "completed"

    @property
    def stands(self) -> bool:
        """Whether it has an outcome that stands: the same settings are not run again. A crash leaves none."""
        return self.state in (TrialState.COMPLETE, TrialState.PRUNED)

    @property
    def counts(self) -> bool:
        """Whether it has ended as one of the trials that its study was asked for: trained, or with such a result."""
        return self.outcome is not None and KIND_OF[self.outcome].counts

    @property
    def resumable(self) -> bool:
        """Whether an earlier run left it open with all that it takes to resume it."""
        return self.state == TrialState.RUNNING and self.replicate is not None

    @property
    def abandoned(self) -> bool:
        """Whether it was proposed by a run that ended before it started it: it has neither settings nor an outcome."""
        return self.state == TrialState.FAIL and self.replicate is None and self.outcome is None

    @property
    def sampled(self) -> bool:
        """Whether the study's sampler sees it and its scheduler may stop it: neither of a probe nor a reference."""
        return not self.probe and self.reference is None


def reference_of(trial: optuna.Trial) -> str | None:
    """The name of the reference that a trial is, which may just have been asked for; None for any other."""
    return cast(Attributes, trial.user_attrs).get("reference")


def is_sampled(trial: FrozenTrial) -> bool:
    """`RecordedTrial.sampled` of a trial that Optuna hands to a sampler, which asks this of all of them every time."""
    return not {"probe", "reference"} & trial.user_attrs.keys()


def read_trials(storage: BaseStorage, study: str) -> list[RecordedTrial]:
    """The trials of ``study``, by number. Raises ``KeyError`` where the storage has no such study."""
    found = storage.get_all_trials(storage.get_study_id_from_name(study), deepcopy=False)
    return sorted(map(RecordedTrial.of, found), key=lambda trial: trial.number)


def best(trials: Iterable[RecordedTrial]) -> RecordedTrial | None:
    """The completed trial with the highest validation score on the sources, the earliest of equals; None without one.

    That score is a trial's first value: nothing of a target enters it. A trial that was prompted from the ground truth
    was shown a part of the answer: it comes after all others. `harness.record.table.ranking` has the same order.
    """
    completed = [trial for trial in trials if trial.completed]
    return max(completed, key=lambda trial: (not trial.oracle_prompt, trial.values[0], -trial.number), default=None)


def standing_by_key(trials: Sequence[RecordedTrial]) -> dict[str, RecordedTrial]:
    """The trials whose outcome stands for their settings, by key: none that was infeasible, and so never trained.

    Of several the first that is COMPLETE, else the first: a probe trains what a scheduler stopped to its end.
    """
    standing = [
        trial
        for state in (TrialState.PRUNED, TrialState.COMPLETE)
        for trial in reversed(trials)
        if trial.state == state and trial.key and trial.counts
    ]
    return {trial.key: trial for trial in standing}
