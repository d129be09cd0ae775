"""A live table of the running trials; on anything but a terminal, such as a log, a line for each that ends."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from harness.record.objectives import DIRECTIONS, Objective, front
from harness.record.table import ORACLE

_SHOWN = 12
_UNTRAINED = {"reused": "reused_from", "taken": "taken_from"}
_FREE = ("infeasible", "crashed")  # endings that are no trial of the study's number


@dataclass
class _Row:
    state: str
    epoch: int
    score: float | None


class LiveTable:
    """A ``harness.execution.searcher.Listener`` that shows every trial's state, epoch and score, and the best so far.

    It shows the ETA as well. Where the console is no terminal it prints a line when the first trial begins and one when
    a trial has ended. ``trials``: how many the study is to have; ``before``: how many had ended before; ``past``: the
    trials of earlier runs, whose endings count and whose best leads from the start. The ETA is the mean time between
    endings since the start, times what is left: none before the first ending. With several ``objectives`` it shows how
    many trials are on their Pareto front, too. What the best is compared with is never the best. Scores that were
    reached with prompts from the ground truth are marked, and lead only while there are no others.
    """

    def __init__(
        self,
        console: Console,
        trials: int,
        epochs: int,
        objectives: tuple[Objective, ...] = ("val/dice",),
        before: int = 0,
        past: Sequence[FrozenTrial] = (),
    ) -> None:
        self.console, self.trials, self.epochs, self.before = console, trials, epochs, before
        self.objectives, self.points = objectives, list[tuple[bool, list[float]]]()
        self.rows: dict[int, _Row] = {}
        self.counts: dict[str, int] = {}
        self.earlier: dict[str, int] = {}
        self.best: tuple[float, int] | None = None
        self.oracle: set[int] = set()
        self.names: dict[int, str] = {}
        self.whole: dict[int, int] = {}  # epochs of a trial that has others than the study: the frozen model has one
        self.begun = time.monotonic()
        self.live = Live(self, console=console, auto_refresh=console.is_terminal, refresh_per_second=4, transient=True)

        for trial in past:
            if trial.state.is_finished() and "outcome" in trial.user_attrs:
                self._mark(trial)
                kind = _kind(trial)
                self.earlier[kind] = self.earlier.get(kind, 0) + 1
                self._weigh(trial)

    def __enter__(self) -> LiveTable:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def grow(self, count: int) -> None:
        """Count ``count`` trials more than were announced."""
        self.trials += count

    def began(self, trial: FrozenTrial) -> None:
        """Show a trial as running."""
        self._mark(trial)
        if not self.rows:
            self._log([f"trial {self.names[trial.number]} begins"])
        self.rows[trial.number] = _Row("running", 0, None)

    def advanced(self, trial: FrozenTrial, entry: Mapping[str, float]) -> None:
        """Show its epoch and score."""
        self.rows[trial.number] = _Row("running", int(entry["epoch"]), entry["score"])

    def ended(self, trial: FrozenTrial) -> None:
        """Show how it ended; only a completed trial can be the best."""
        self._mark(trial)
        outcome = trial.user_attrs["outcome"]
        kind = _kind(trial)
        score = {entry["epoch"]: entry["score"] for entry in trial.user_attrs["curve"]}.get(outcome["epoch"])
        self.rows[trial.number] = _Row(kind.replace("_", " "), outcome["epoch"], score)
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self._weigh(trial)
        if kind != "infeasible":  # there may be hundreds, and they cost nothing
            row = self.rows[trial.number]
            how = f"trial {self.names[trial.number]} {row.state} at {row.epoch}/{self.whole[trial.number]}"
            self._log([how, *self._best(), *self._left()])

    def _log(self, parts: Sequence[str]) -> None:
        """Print a line where no table is drawn."""
        if not self.console.is_terminal:
            done = f"{self.before + self.finished} of {self.trials}: "
            self.console.print(done + ", ".join(parts), markup=False, highlight=False, soft_wrap=True)

    def _mark(self, trial: FrozenTrial) -> None:
        self.names[trial.number] = _name(trial)
        self.whole[trial.number] = json.loads(trial.user_attrs.get("config", "{}")).get("epochs", self.epochs)
        if trial.user_attrs["oracle_prompt"]:
            self.oracle.add(trial.number)

    def _weigh(self, trial: FrozenTrial) -> None:
        """Let a completed trial be the best, if it is."""
        if trial.user_attrs["outcome"]["kind"] == "completed" and "reference" not in trial.user_attrs:
            self.points.append((trial.number in self.oracle, trial.values))
            if self._leads(trial):
                self.best = (trial.values[0], trial.number)

    def _leads(self, trial: FrozenTrial) -> bool:
        if self.best is None:
            return True
        score, number = self.best
        return (trial.number not in self.oracle, trial.values[0]) > (number not in self.oracle, score)

    @property
    def finished(self) -> int:
        """How many trials of the study's number have ended in this run."""
        return sum(count for kind, count in self.counts.items() if kind not in _FREE)

    @property
    def eta(self) -> float | None:
        """Seconds that are left, or None while nothing has ended."""
        if not self.finished:
            return None
        return (time.monotonic() - self.begun) / self.finished * max(self.trials - self.before - self.finished, 0)

    def __rich__(self) -> Group:
        names = Column("trial", overflow="fold")  # cut, two long arms could be one
        table = Table(names, "state", "epoch", "val dice", title_justify="left", box=None, pad_edge=False)
        running = [number for number, row in self.rows.items() if row.state == "running"]
        others = [number for number in self.rows if number not in running]
        room = min(max(_SHOWN - len(running), 0), len(others))
        for number in sorted(others[len(others) - room :] + running):
            row = self.rows[number]
            mark = "*" if self.best is not None and self.best[1] == number else ""
            score = "" if row.score is None else f"{row.score:.4f}{mark}{self._dagger(number)}"
            table.add_row(self.names[number], row.state, f"{row.epoch}/{self.whole[number]}", score)
        return Group(table, self._line(), ProgressBar(self.trials, self.before + self.finished, width=40))

    def _line(self) -> Text:
        parts = [f"{self.before + self.finished} of {self.trials} trials"]
        kinds = sorted(self.earlier.keys() | self.counts.keys())
        parts += [f"{self.earlier.get(k, 0) + self.counts.get(k, 0)} {k.replace('_', ' ')}" for k in kinds]
        parts += self._best()
        if len(self.objectives) > 1 and self.points:
            least = min(oracle for oracle, _ in self.points)
            points = [values for oracle, values in self.points if oracle == least]
            on = sum(front(points, [DIRECTIONS[name] for name in self.objectives]))
            parts.append(f"{on} on the Pareto front")
        parts += self._left()
        if self.oracle:
            parts.append(f"{ORACLE} prompted from ground truth")
        return Text(", ".join(parts))

    def _best(self) -> list[str]:
        if self.best is None:
            return []
        score, number = self.best
        return [f"best {score:.4f}{self._dagger(number)} (trial {number})"]

    def _left(self) -> list[str]:
        if self.eta is None:
            return []
        return [f"about {self.eta / 60:.0f} min left" if self.eta > 90 else f"about {self.eta:.0f} s left"]

    def _dagger(self, number: int) -> str:
        return f" {ORACLE}" if number in self.oracle else ""


def _kind(trial: FrozenTrial) -> str:
    """How a trial ended, or how it came by an ending without being trained."""
    known = trial.user_attrs
    return next((kind for kind, sign in _UNTRAINED.items() if sign in known), str(known["outcome"]["kind"]))


def _name(trial: FrozenTrial) -> str:
    """The trial's number; of an ablation's its arm and replicate, too, of a probe's or a reference that it is one."""
    cell = trial.params
    if "reference" in trial.user_attrs:
        return f"{trial.number} {trial.user_attrs['reference']}"
    if "probe" in trial.user_attrs:
        return f"{trial.number} probe"
    return f"{trial.number} {cell['arm']}, seed {cell['seed']}" if "arm" in cell else str(trial.number)
