"""Optuna for Ray Tune, telling the truth.

``Suggest`` asks the study for settings; ``Tell`` writes back how each trial ended. Ray's own bridge tells a stopped
trial as complete with its truncated score and loses a trial that became NaN; here every ending is what it was.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune import Callback
from ray.tune.search import Searcher

from harness.constraints import Constraint
from harness.errors import Hopeless
from harness.execution.messages import Order
from harness.record import study as recorded
from harness.record.outcome import JUDGED, Completed, Crashed, Diverged, Infeasible, Outcome, OutOfMemory, Stopped
from harness.record.study import Record
from sam2lora.artifacts import CHECKPOINT, RESULT
from sam2lora.choice import from_json, to_json
from sam2lora.config import Replicate, TrialConfig, trial_key
from sam2lora.runtime import Runtime

Propose = Callable[[optuna.Trial], tuple[TrialConfig, Replicate]]
"""What a trial runs: its settings, drawn from the trial or looked up by its parameters, and its replicate."""

More = Callable[[], Sequence[Mapping[str, Any]]]
Elsewhere = Callable[[optuna.Trial, str], FrozenTrial | None]

CRASHES_IN_A_ROW = 3
"""So many crashed trials, one after the other, end a run: the fault is not in their settings."""
INFEASIBLE_IN_A_ROW = 100
"""So many infeasible proposals, one after the other, end a run: what is asked for can hardly be had."""


class Listener(Protocol):
    """Someone who is told what happens to trials: MLflow, the live table."""

    def began(self, trial: FrozenTrial) -> None:
        """A trial was proposed, or goes on from an earlier run."""

    def advanced(self, trial: FrozenTrial, entry: Mapping[str, float]) -> None:
        """An epoch ended."""

    def ended(self, trial: FrozenTrial) -> None:
        """A trial was told."""


@dataclass
class Open:
    """A trial that was handed to Ray and has not ended: its handle, its key, its engine, and its curve so far."""

    trial: optuna.Trial
    key: str
    engine: str | None = None
    curve: list[dict[str, float]] = field(default_factory=list)
    cost: dict[str, float] = field(default_factory=dict)


class Suggest(Searcher):
    """Proposes up to ``trials`` trials, in all runs of the study together.

    First come the trials that an earlier run left open, then new ones. Settings whose key has an ending in the record
    take that ending; settings whose key is running wait for it. A crashed trial does not count: another one is drawn in
    its place. Nor do settings that miss one of ``constraints``, which cost nothing: they are told as infeasible
    at once. ``limit``: how many proposals the sampler has, if they come to an end; there infeasible ones do count.
    After ``INFEASIBLE_IN_A_ROW`` of them ``hopeless`` says so and nothing more is proposed.

    With a ``queue`` the sampler is not asked: parameters come from it in order, each once in this run, and a
    trial that crashes is not replaced. What the queue leaves out of ``trials`` has ended before. ``more`` is asked for
    further ones when all that were handed out have ended. ``elsewhere`` gives a new trial the completed result of one
    of equal key in another study, if it can.

    ``points``, by their numbers, are the queue of a probe (`harness.execution.probe`): its trials are marked, and
    settings that a scheduler stopped early are trained again for it, to their end. Before them come ``references``, by
    name (`harness.execution.references`), marked as well and bound by no constraint. Whoever has ``points`` sees to
    these trials alone, and whoever has none leaves them alone.
    """

    def __init__(
        self,
        record: Record,
        propose: Propose,
        materials: Mapping[str, str],
        runtime: Runtime,
        trials: int,
        listeners: Sequence[Listener] = (),
        constraints: Sequence[Constraint] = (),
        limit: int | None = None,
        queue: Sequence[Mapping[str, Any]] | None = None,
        more: More | None = None,
        elsewhere: Elsewhere | None = None,
        points: Mapping[int, Mapping[str, Any]] | None = None,
        references: Sequence[str] = (),
    ) -> None:
        super().__init__(metric="score", mode="max")
        self.record, self.propose = record, propose
        self.materials, self.runtime, self.trials, self.listeners = dict(materials), runtime, trials, listeners
        self.constraints, self.limit = constraints, limit
        self.probing = points is not None
        self.open: dict[str, Open] = {}
        self.waiting: list[tuple[optuna.Trial, str]] = []
        self.endings = recorded.finished(record.trials())
        own = self._own()
        self.infeasible = sum(_kind(trial) == "infeasible" for trial in own)
        told = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in own)
        self.ended = told - self.infeasible
        self.in_a_row = 0
        self.hopeless: Hopeless | None = None
        self.left = self._left_open()
        self.marks: list[dict[str, Any]] = [{"reference": name} for name in references]
        self.marks += [{"probe": True, "point": point} for point in points or ()]
        if points is not None:
            queue = [*({} for _ in references), *points.values()]
        self.queue = None if queue is None else list(queue)
        self.more, self.elsewhere = more, elsewhere
        self.on_more: Callable[[int], None] = lambda count: None
        self.engines: Sequence[str] = ()
        if self.queue is not None:
            self._discard_enqueued()
            self.ended = max(trials - len(self.queue) - len(self.left), 0)

    @property
    def wanted(self) -> int:
        """How many trials have no ending yet; with a queue, those that this run has still to bring to one."""
        if self.queue is not None:
            return len(self.queue) + len(self.left) + len(self.open) + len(self.waiting)
        left = self.trials - self.ended
        if self.limit is not None:
            left = min(left, self.limit - self.ended - self.infeasible)
        return max(left, 0)

    def _own(self) -> list[FrozenTrial]:
        return [trial for trial in self.record.trials() if recorded.is_beside(trial) == self.probing]

    def _left_open(self) -> list[FrozenTrial]:
        left = [trial for trial in self._own() if trial.state == TrialState.RUNNING]
        for trial in left:
            if "replicate" not in trial.user_attrs:
                recorded.abandon(self.record, trial)
        return [trial for trial in left if "replicate" in trial.user_attrs]

    def _discard_enqueued(self) -> None:
        """Close what an earlier run enqueued and did not live to ask for: the queue has it again."""
        while self.record.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self.record.study.tell(self.record.study.ask(), state=TrialState.FAIL)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next order for a worker, None while it depends on a running trial, ``FINISHED`` when all have ended."""
        while self.left:
            again = recorded.reopen(self.record, frozen := self.left.pop(0))
            if self._refused(again, from_json(TrialConfig, frozen.user_attrs["config"])):
                continue
            if self._known(key := frozen.user_attrs["key"]):
                self._reuse(again, key)
            elif self._running(key):
                self.waiting.append((again, key))
            else:
                return self._hand_out(trial_id, again, frozen.user_attrs)
        self._settle_waiting()
        while self.hopeless is None and (trial := self._next()) is not None:
            config, replicate = self._draw(trial)
            key = trial_key(config, replicate, self.materials)
            free = "reference" in trial.user_attrs
            excess: dict[str, float] = {} if free else {limit.kind: limit.excess(config) for limit in self.constraints}
            oracle = config.test_prompt.oracle
            recorded.begin(trial, key, to_json(config), to_json(replicate), excess, oracle_prompt=oracle)
            if self._refused(trial, config):
                continue
            if self._known(key):
                self._reuse(trial, key)
            elif self._running(key):
                self.waiting.append((trial, key))
            elif self.elsewhere is not None and (taken := self.elsewhere(trial, key)) is not None:
                self._ended(key, taken)
            else:
                return self._hand_out(trial_id, trial, trial.user_attrs)
        # A running trial may still crash and have to be replaced, so the last word waits for the last ending.
        return None if self.open or self.waiting else Searcher.FINISHED

    def _next(self) -> optuna.Trial | None:
        """A trial without settings yet, or None while or because no further one is wanted."""
        study = self.record.study
        if self.queue is None:
            return study.ask() if len(self.open) + len(self.waiting) < self.wanted else None
        if not self.queue and not self.open and not self.waiting and self.more is not None:
            self.queue = list(self.more())
            self.trials += len(self.queue)
            self.on_more(len(self.queue))
        if not self.queue:
            return None
        marks = self.marks.pop(0) if self.marks else {}
        study.enqueue_trial(dict(self.queue.pop(0)), user_attrs=marks)
        return study.ask()

    def _running(self, key: str) -> bool:
        return key in {other.key for other in self.open.values()}

    def _known(self, key: str) -> bool:
        """Whether settings have an ending that stands for a trial of this run, too."""
        return key in self.endings and not (self.probing and _kind(self.endings[key]) == "stopped")

    def _draw(self, trial: optuna.Trial) -> tuple[TrialConfig, Replicate]:
        try:
            return self.propose(trial)
        except Exception:
            self.record.study.tell(trial, state=TrialState.FAIL)
            raise

    def _refused(self, trial: optuna.Trial, config: TrialConfig) -> bool:
        """Whether the settings miss a constraint; if so, the trial is told."""
        missed = [constraint for constraint in self.constraints if constraint.excess(config) > 0]
        if not missed or "reference" in trial.user_attrs:
            self.in_a_row = 0
            return False
        why = "; ".join(f"{constraint.rule}, but is {constraint.found(config)}" for constraint in missed)
        frozen = recorded.tell(self.record, trial, Infeasible(0, why), [], {})
        self.infeasible += 1
        self.in_a_row += 1
        for listener in self.listeners:
            listener.ended(frozen)
        if self.in_a_row >= INFEASIBLE_IN_A_ROW:
            self.hopeless = Hopeless(
                f"Settings must meet the constraints of the search, but {self.in_a_row} proposals one after the other "
                f"do not, the last one: {why}. Loosen the constraint or narrow the space, then run it as another study "
                f"with --study; what was finished is kept."
            )
        return True

    def _hand_out(self, trial_id: str, trial: optuna.Trial, attributes: Mapping[str, Any]) -> dict[str, Any]:
        key = attributes["key"]
        self.open[trial_id] = Open(trial, key, engine := self._engine())
        for listener in self.listeners:
            listener.began(self.record.trial(trial.number))
        order = Order(
            key=key,
            config=attributes["config"],
            replicate=to_json(from_json(Replicate, json.dumps(attributes["replicate"]))),
            runtime=self.runtime,
            folder=str(self.record.files(key)),
        )
        return {"key": key, "order": order, "engine": engine}

    def _engine(self) -> str | None:
        """The engine with the fewest open trials; None where every trial computes in a process of its own."""
        taken = Counter(ours.engine for ours in self.open.values())
        return min(self.engines, key=lambda name: taken[name], default=None)

    def _reuse(self, trial: optuna.Trial, key: str) -> None:
        self._ended(key, recorded.reuse(self.record, trial, self.endings[key]))

    def _ended(self, key: str, frozen: FrozenTrial) -> None:
        """A trial came to an ending that stands without being trained in this run."""
        self.ended += 1
        self.endings.setdefault(key, frozen)
        for listener in self.listeners:
            listener.ended(frozen)

    def _settle_waiting(self) -> None:
        for trial, key in [pair for pair in self.waiting if not self._running(pair[1])]:
            self.waiting.remove((trial, key))
            if self._known(key):
                self._reuse(trial, key)
            else:  # its twin crashed: nothing was learned, so this one is not trained in its place
                recorded.tell(self.record, trial, Crashed(0, "the same settings crashed in another trial"), [], {})

    def close(self, trial_id: str, outcome: Outcome) -> FrozenTrial:
        """Commit the ending of a trial that was handed out."""
        ours = self.open[trial_id]
        frozen = recorded.tell(self.record, ours.trial, outcome, ours.curve, ours.cost)
        del self.open[trial_id]  # only once it is committed
        if not isinstance(outcome, Crashed):
            self.ended += 1
            self.endings[ours.key] = frozen
        (self.record.files(ours.key) / CHECKPOINT).unlink(missing_ok=True)  # the ending is committed
        for listener in self.listeners:
            listener.ended(frozen)
        return frozen

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: Ray gives a searcher neither the reason of an error nor the ending, so ``Tell`` listens instead."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the record is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: a study is resumed from its record."""


class Tell(Callback):
    """Writes what Ray sees of a trial into the record."""

    def __init__(self, suggest: Suggest, on_hopeless: Callable[[Hopeless], None]) -> None:
        self.suggest, self.on_hopeless = suggest, on_hopeless
        self.crashes = 0

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Record an epoch. Replayed epochs of a resumed trial are passed over."""
        ours, entry = self.suggest.open[trial.trial_id], result["entry"]
        ours.cost = result["cost"] or ours.cost
        if entry is None or any(known["epoch"] == entry["epoch"] for known in ours.curve):
            return
        ours.curve.append(entry)
        recorded.report(ours.trial, entry["epoch"], entry["score"])
        frozen = self.suggest.record.trial(ours.trial.number)
        for listener in self.suggest.listeners:
            listener.advanced(frozen, entry)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record an ending: the trial's own, or the scheduler's if the trial did not come to one."""
        if trial.trial_id in self.suggest.open:
            self.suggest.close(trial.trial_id, self._outcome(trial))
            self.crashes = 0

    def _outcome(self, trial: Any) -> Outcome:
        result = trial.last_result
        epoch = int(result["epoch"])
        match result["ending"]:
            case "completed":
                key = self.suggest.open[trial.trial_id].key
                sealed = json.loads((self.suggest.record.files(key) / RESULT).read_text())
                # One that an earlier version sealed tells less; what must be told `Completed` insists on.
                named = {name: sealed[name] for name in JUDGED if name in sealed}
                return Completed(epoch=epoch, score=result["score"], **named)
            case "diverged":
                return Diverged(epoch, result["why"])
            case "out_of_memory":
                return OutOfMemory(epoch, result["why"])
            case _:
                return Stopped(epoch, result["score"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a crash that outlived its retries; after several in a row, give up with the last reason."""
        if trial.trial_id not in self.suggest.open:
            return
        epoch = len(self.suggest.open[trial.trial_id].curve)
        text = Path(trial.error_file).read_text() if trial.error_file else ""
        why = reason(text)
        if "ray.exceptions.OutOfMemoryError" in text:  # Ray kills a worker before the machine runs out
            self.suggest.close(trial.trial_id, OutOfMemory(epoch + 1, why))
            return
        self.suggest.close(trial.trial_id, Crashed(epoch, why))
        self.crashes += 1
        if self.crashes >= CRASHES_IN_A_ROW:
            self.on_hopeless(
                Hopeless(
                    f"Trials must run, but {self.crashes} crashed one after the other, the last one with: {why}\n"
                    f"Mend the cause and run the same command again; what was finished is kept."
                )
            )


def reason(text: str) -> str:
    """Why a trial crashed, in one line of what Ray wrote about its failures: the last one's exception."""
    last = text.rpartition("Failure # ")[2]
    lines = [line.strip() for line in last.splitlines()[1:] if line.strip()]
    if not lines:
        return "the worker process died and left no reason"
    return lines[-1] if any(line.startswith("Traceback") or "ray::" in line for line in lines) else lines[0]


def _kind(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get("outcome", {}).get("kind", ""))


@dataclass(eq=False)
class _Past:
    """Enough of a Ray trial for a scheduler to remember it."""

    trial_id: str
    config: dict[str, str]


def rebuild(scheduler: Any, trials: Sequence[FrozenTrial]) -> None:
    """Show a fresh scheduler the curves of trials that have ended, so that its rungs are where they were.

    Trials that are still open are left out: they replay their own curves when they go on. So are reused and infeasible
    ones, those of a probe and references: no scheduler ever saw them. Where there are several objectives, no scheduler
    stops anyone or remembers.
    """
    for trial in trials:
        ended = trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and "outcome" in trial.user_attrs
        unseen = "reused_from" in trial.user_attrs or _kind(trial) == "infeasible" or recorded.is_beside(trial)
        if not ended or unseen or len(trial.values or ()) > 1:
            continue
        past = _Past(f"past-{trial.number}", {"key": trial.user_attrs["key"]})
        kind, epoch = trial.user_attrs["outcome"]["kind"], trial.user_attrs["outcome"]["epoch"]
        scheduler.on_trial_add(None, past)
        for reached, score in sorted(trial.intermediate_values.items()):
            if (
                kind == "stopped" or reached < epoch
            ):  # an ending of the trial's own is told as complete, not as a result
                scheduler.on_trial_result(None, past, {"epoch": reached, "score": score})
        last = math.nan if kind == "out_of_memory" else trial.intermediate_values[epoch]
        scheduler.on_trial_complete(None, past, {"epoch": epoch, "score": last})
