"""Optuna for Ray Tune: Ray asks a `Searcher` for trials, which it takes from a source and writes into the record.

Ray's own bridge reports a stopped trial as complete, with its truncated score, and loses a trial that became NaN. Here
every outcome is recorded as what it was (`harness.execution.callback`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import TrialState
from ray import tune

from harness.constraints import Constraint
from harness.errors import TooManyFailures
from harness.execution.messages import TrialOrder
from harness.execution.reuse import OtherStudies
from harness.execution.sources import TrialSource, own_trials
from harness.record import optuna_writer
from harness.record.outcome import Crashed, Infeasible, Outcome
from harness.record.trials import RecordedTrial, reference_of
from harness.tracking.tracker import Listener
from sam2lora.choice import from_json, to_json
from sam2lora.config import Replicate, TrialConfig, trial_key
from sam2lora.errors import DamagedFile
from sam2lora.files import CHECKPOINT
from sam2lora.runtime import Runtime

Propose = Callable[[optuna.Trial], tuple[TrialConfig, Replicate]]
"""What a trial runs: its settings, drawn from the trial or looked up by its parameters, and its replicate."""

INFEASIBLE_IN_A_ROW = 100
"""So many infeasible proposals, one after the other, end a run: the constraints can hardly be met."""


@dataclass
class OpenTrial:
    """A trial that Ray runs: its handle, its key, its engine, and its curve so far."""

    trial: optuna.Trial
    key: str
    engine: str | None = None
    curve: list[dict[str, float]] = field(default_factory=list)
    cost: dict[str, float] = field(default_factory=dict)


class Searcher(tune.search.Searcher):
    """Hands the trials of a ``source`` to Ray, first those that an earlier run left open.

    A trial whose settings have a result in ``known``, by key, reuses it; one whose settings are running waits for
    their result; one that another study has completed gets a copy (``others``). Settings that miss one of
    ``constraints`` are recorded as infeasible at once, those of references excepted. After `INFEASIBLE_IN_A_ROW` of
    them ``failure`` says so, and nothing more is handed out. ``engines``: the names of those that trials run in, spread
    evenly; none where every trial has a separate process.
    """

    def __init__(
        self,
        source: TrialSource,
        propose: Propose,
        known: MutableMapping[str, RecordedTrial],
        materials: Mapping[str, str],
        runtime: Runtime,
        constraints: Sequence[Constraint] = (),
        others: OtherStudies | None = None,
        listeners: Sequence[Listener] = (),
    ) -> None:
        super().__init__(metric="score", mode="max")
        self.source, self.record = source, source.record
        self.propose, self.known, self.others = propose, known, others
        self.materials, self.runtime = dict(materials), runtime
        self.constraints, self.listeners = constraints, listeners
        self.engines: Sequence[str] = ()
        self.open: dict[str, OpenTrial] = {}
        self.waiting: list[tuple[optuna.Trial, str]] = []
        left_open = [trial for trial in own_trials(source) if trial.state == TrialState.RUNNING]
        self.resumable = [trial for trial in left_open if trial.resumable]
        for trial in left_open:
            if not trial.resumable:
                optuna_writer.abandon(self.record, trial)
        self.infeasible_in_a_row = 0
        self.failure: TooManyFailures | None = None

    @property
    def in_flight(self) -> int:
        """How many trials have started and not ended."""
        return len(self.resumable) + len(self.open) + len(self.waiting)

    @property
    def wanted(self) -> int:
        """How many trials have no result yet."""
        return self.source.wanted(self.in_flight)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next order for a worker, None while it depends on a running trial, ``FINISHED`` when all have ended."""
        while self.resumable:
            trial = optuna_writer.reopen(self.record, left := self.resumable.pop(0))
            if not self._ends_untrained(trial, left.key, from_json(TrialConfig, left.config)):
                return self._hand_out(trial_id, trial)
        self._settle_waiting()
        while self.failure is None and (new := self.source.next(self.in_flight)) is not None:
            key, config = self._begin(new)
            if not self._ends_untrained(new, key, config) and not self._is_copied(new, key):
                return self._hand_out(trial_id, new)
        # A running trial may still crash and have to be replaced, so the last word waits for the last outcome.
        return None if self.open or self.waiting else self.FINISHED

    def _begin(self, trial: optuna.Trial) -> tuple[str, TrialConfig]:
        """Record what a new trial is about to run: its key and its settings."""
        try:
            config, replicate = self.propose(trial)
        except Exception:
            self.record.study.tell(trial, state=TrialState.FAIL)
            raise
        key = trial_key(config, replicate, self.materials)
        excess: dict[str, float] = {limit.kind: limit.excess(config) for limit in self._constraints_of(trial)}
        oracle = config.test_prompt.oracle
        optuna_writer.begin(trial, key, to_json(config), to_json(replicate), excess, oracle_prompt=oracle)
        return key, config

    def _constraints_of(self, trial: optuna.Trial) -> Sequence[Constraint]:
        return self.constraints if reference_of(trial) is None else ()

    def _ends_untrained(self, trial: optuna.Trial, key: str, config: TrialConfig) -> bool:
        """Whether a trial is infeasible, or has or will have the result of another one with equal settings."""
        if self._is_infeasible(trial, config):
            return True
        if (result := self._result(key)) is not None:
            self._end(optuna_writer.reuse(self.record, trial, result))
        elif self._is_running(key):
            self.waiting.append((trial, key))
        else:
            return False
        return True

    def _is_infeasible(self, trial: optuna.Trial, config: TrialConfig) -> bool:
        """Whether the settings of a trial miss a constraint; if so, it has ended."""
        missed = [constraint for constraint in self._constraints_of(trial) if constraint.excess(config) > 0]
        if not missed:
            self.infeasible_in_a_row = 0
            return False
        why = "; ".join(f"{constraint.rule}, but is {constraint.found(config)}" for constraint in missed)
        self._end(optuna_writer.tell(self.record, trial, Infeasible(0, why), [], {}))
        self.infeasible_in_a_row += 1
        if self.infeasible_in_a_row >= INFEASIBLE_IN_A_ROW:
            self.failure = TooManyFailures(
                f"Settings must meet the constraints of the search, but {self.infeasible_in_a_row} proposals one after "
                f"the other do not, the last one: {why}. Loosen the constraint or narrow the space, then run it as "
                f"another study with --study; what was finished is kept."
            )
        return True

    def _result(self, key: str) -> RecordedTrial | None:
        """The known result of settings; where trials are apart, none that a scheduler cut short."""
        result = self.known.get(key)
        return None if result is not None and self.source.apart and result.outcome == "stopped" else result

    def _is_running(self, key: str) -> bool:
        return key in {trial.key for trial in self.open.values()}

    def _is_copied(self, trial: optuna.Trial, key: str) -> bool:
        """Whether another study has completed such a trial; if so, it has ended with that result."""
        if self.others is None:
            return False
        try:
            copy = self.others.copy(trial, key)
        except DamagedFile as error:
            self.warn(trial.number, f"The result of another study is not copied: {error}")
            return False
        if copy is None:
            return False
        self._end(copy)
        return True

    def _hand_out(self, trial_id: str, trial: optuna.Trial) -> dict[str, Any]:
        recorded = self.record.note(trial.number)
        open_trials = Counter(other.engine for other in self.open.values())
        engine = min(self.engines, key=lambda name: open_trials[name], default=None)
        self.open[trial_id] = OpenTrial(trial, recorded.key, engine)
        for listener in self.listeners:
            listener.began(recorded)
        order = TrialOrder(
            key=recorded.key,
            config=recorded.config,
            replicate=to_json(from_json(Replicate, json.dumps(recorded.replicate))),
            runtime=self.runtime,
            folder=str(self.record.files(recorded.key)),
        )
        return {"key": recorded.key, "order": order, "engine": engine}

    def _settle_waiting(self) -> None:
        """End the trials whose settings no longer run in another one: with its result, or as crashed as it did."""
        for trial, key in [pair for pair in self.waiting if not self._is_running(pair[1])]:
            self.waiting.remove((trial, key))
            if (result := self._result(key)) is not None:
                self._end(optuna_writer.reuse(self.record, trial, result))
            else:
                crashed = Crashed(0, "the same settings crashed in another trial")
                self._end(optuna_writer.tell(self.record, trial, crashed, [], {}))

    def close(self, trial_id: str, outcome: Outcome) -> RecordedTrial:
        """Record the outcome of a trial that was handed out."""
        ours = self.open[trial_id]
        ended = optuna_writer.tell(self.record, ours.trial, outcome, ours.curve, ours.cost)
        # Only now that the outcome is committed:
        del self.open[trial_id]
        (self.record.files(ours.key) / CHECKPOINT).unlink(missing_ok=True)
        self._end(ended)
        return ended

    def warn(self, number: int, text: str) -> None:
        """Pass a sentence on what a person should know of a trial on to the listeners."""
        for listener in self.listeners:
            listener.warned(self.record.trial(number), text)

    def _end(self, trial: RecordedTrial) -> None:
        """A trial has ended, and the record has it."""
        self.source.count(trial)
        if trial.counts:
            self.known[trial.key] = trial
        for listener in self.listeners:
            listener.ended(trial)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: Ray gives a searcher neither the reason of an error nor the outcome, so a callback records both."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the record is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a study is resumed from its record."""
