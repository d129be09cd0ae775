"""Where the trials of a run come from: a sampler proposes them, a queue lists them, or they are a search's probe.

A source gives one trial after the other. Those ``in_flight`` were left open by an earlier run, are running, or wait for
a running trial of equal settings. A source knows neither Ray nor what a trial does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import optuna
from optuna.trial import TrialState

from harness.record.study import Record
from harness.record.trials import Attributes, RecordedTrial

Parameters = Mapping[str, Any]


@dataclass
class Sampled:
    """Trials that the study's sampler proposes: ``trials`` of them in all runs of the study together.

    A trial that crashes does not count, so that another one is proposed in its place. Nor does one that misses a
    constraint of the search, unless the sampler has no more than ``limit`` proposals.
    """

    record: Record
    trials: int
    limit: int | None = None
    ended: int = field(init=False)
    infeasible: int = field(init=False)
    apart: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.ended = self.infeasible = 0
        for trial in own_trials(self):
            if trial.stands:
                self.count(trial)

    def count(self, trial: RecordedTrial) -> None:
        """Take note that one of these trials has ended."""
        self.ended += trial.counts
        self.infeasible += trial.outcome == "infeasible"

    def wanted(self, in_flight: int) -> int:
        """How many trials have no result yet, those in flight included."""
        left = self.trials - self.ended
        if self.limit is not None:
            left = min(left, self.limit - self.ended - self.infeasible)
        return max(left, 0)

    def next(self, in_flight: int) -> optuna.Trial | None:
        """A trial that has no settings yet; None while no further one is wanted."""
        return self.record.study.ask() if in_flight < self.wanted(in_flight) else None


class _Listed:
    """What sources do whose trials stand in a ``queue``, each once in a run."""

    record: Record
    trials: int
    queue: Sequence[Any]
    ended: int

    def _begin(self, in_flight: int) -> None:
        _discard_enqueued(self.record)
        self.ended = max(self.trials - self.wanted(in_flight), 0)

    def count(self, trial: RecordedTrial) -> None:
        """Take note that one of these trials has ended."""
        self.ended += trial.counts

    def wanted(self, in_flight: int) -> int:
        """How many trials this run has still to bring to an end."""
        return len(self.queue) + in_flight


@dataclass
class Queued(_Listed):
    """Trials whose parameters stand in a ``queue``, each once in this run: one that crashes is not replaced.

    ``trials``: of the study, those that ended before this run included. ``more`` is asked for further parameters when
    all trials that were handed out have ended.
    """

    record: Record
    trials: int
    queue: Sequence[Parameters]
    more: Callable[[], Sequence[Parameters]] = tuple
    ended: int = field(init=False)
    apart: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self._begin(resumable(self))

    def next(self, in_flight: int) -> optuna.Trial | None:
        """The trial at the head of the queue; None while the queue is empty."""
        if not self.queue and not in_flight:
            self.queue = self.more()
            self.trials += len(self.queue)
        if not self.queue:
            return None
        head, *self.queue = self.queue
        return _enqueued(self.record, head)


@dataclass
class Probe(_Listed):
    """The ``references`` of a search, by name, then the ``points`` of its probe, by number, each once in this run.

    They are apart from the other trials of their study: no sampler sees them, no scheduler stops them, and settings
    that one stopped early are trained again, to their end. ``trials``: of references and probe, those that ended before
    this run included. ``record``: with a sampler that learns nothing (`harness.execution.probe.blind`).
    """

    record: Record
    trials: int
    points: Mapping[int, Parameters]
    references: Sequence[str] = ()
    ended: int = field(init=False)
    apart: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.queue: list[tuple[Parameters, Attributes]] = [({}, {"reference": name}) for name in self.references]
        self.queue += [(point, {"probe": True, "point": number}) for number, point in self.points.items()]
        self._begin(resumable(self))

    def next(self, in_flight: int) -> optuna.Trial | None:
        """The next reference or point, marked as one; None when there are no more."""
        return _enqueued(self.record, *self.queue.pop(0)) if self.queue else None


TrialSource = Sampled | Queued | Probe


def own_trials(source: TrialSource) -> list[RecordedTrial]:
    """The trials of the record that come from such a source."""
    return [trial for trial in source.record.trials() if trial.sampled != source.apart]


def resumable(source: TrialSource) -> int:
    """How many trials of a source an earlier run left open."""
    return sum(trial.resumable for trial in own_trials(source))


def _enqueued(record: Record, parameters: Parameters, marks: Attributes | None = None) -> optuna.Trial:
    record.study.enqueue_trial(dict(parameters), user_attrs=dict(marks or {}))
    return record.study.ask()


def _discard_enqueued(record: Record) -> None:
    """Close what an earlier run enqueued and did not live to ask for: the queue has it again."""
    while record.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        record.study.tell(record.study.ask(), state=TrialState.FAIL)
