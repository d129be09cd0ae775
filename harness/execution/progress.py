"""The progress of a run, with its ETA: a live table of the trials, or in a log a line for each trial that ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from harness.record.objectives import DIRECTIONS, Objective, front
from harness.record.outcome import KIND_OF
from harness.record.trials import RecordedTrial, best
from sam2lora.cli.messages import say, warn
from sam2lora.intervals import ORACLE

_SHOWN = 12


@dataclass(frozen=True)
class _Row:
    """``epochs``: as many as the trial can have, which may be others than the study's: the frozen model has one."""

    name: str
    state: str
    epoch: int
    epochs: int
    score: float | None
    oracle: bool


class LiveTable:
    """A listener that shows the state, epoch and score of every trial, the best so far and the ETA.

    Where the console is no terminal it prints a line when the first trial starts and one when a trial has ended.
    ``trials``: how many the study is to have by now; ``before``: how many had ended before this run; ``past``: the
    trials of earlier runs, whose outcomes count and whose best leads from the start. The ETA is the mean time between
    outcomes since the start, times what is left: none before the first one. With several ``objectives`` it also shows
    how many trials are on their Pareto front. A reference is never the best. Scores with prompts from the ground truth
    are marked, and lead only while there are no others.
    """

    def __init__(
        self,
        console: Console,
        trials: Callable[[], int],
        epochs: int,
        objectives: tuple[Objective, ...] = ("val/dice",),
        before: int = 0,
        past: Sequence[RecordedTrial] = (),
    ) -> None:
        self.console, self.trials, self.epochs, self.before = console, trials, epochs, before
        self.objectives, self.points = objectives, list[tuple[bool, tuple[float, ...]]]()
        self.rows: dict[int, _Row] = {}
        self.counts: dict[str, int] = {}
        self.earlier: dict[str, int] = {}
        self.best: RecordedTrial | None = None
        self.prompted = False
        self.started = time.monotonic()
        self.live = Live(self, console=console, auto_refresh=console.is_terminal, refresh_per_second=4, transient=True)

        for trial in past:
            if trial.outcome is not None:
                kind = _kind(trial)
                self.earlier[kind] = self.earlier.get(kind, 0) + 1
                self._weigh(trial)

    def __enter__(self) -> LiveTable:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.live.stop()

    def began(self, trial: RecordedTrial) -> None:
        """Show a trial as running."""
        if not self.rows:
            self._log([f"trial {_name(trial)} starts"])
        self._show(trial, "running", 0, None)

    def advanced(self, trial: RecordedTrial, entry: Mapping[str, float]) -> None:
        """Show its epoch and score."""
        self._show(trial, "running", int(entry["epoch"]), entry["score"])

    def warned(self, trial: RecordedTrial, text: str) -> None:
        """Print it above the table."""
        warn(self.console, f"trial {_name(trial)}: {text}")

    def ended(self, trial: RecordedTrial) -> None:
        """Show how it ended; only a completed trial can be the best."""
        kind, epoch = _kind(trial), trial.epoch or 0
        score = {entry["epoch"]: entry["score"] for entry in trial.curve}.get(epoch)
        row = self._show(trial, kind.replace("_", " "), epoch, score)
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self._weigh(trial)
        if kind != "infeasible":  # there may be hundreds, and they cost nothing
            self._log([f"trial {row.name} {row.state} at {row.epoch}/{row.epochs}", *self._best(), *self._left()])

    def _log(self, parts: Sequence[str]) -> None:
        """Print a line where no table is drawn."""
        if not self.console.is_terminal:
            done = f"{self.before + self.finished} of {self.trials()}: "
            say(self.console, done + ", ".join(parts))

    def _show(self, trial: RecordedTrial, state: str, epoch: int, score: float | None) -> _Row:
        oracle, epochs = bool(trial.oracle_prompt), trial.settings.get("epochs", self.epochs)
        self.prompted |= oracle
        row = self.rows[trial.number] = _Row(_name(trial), state, epoch, epochs, score, oracle)
        return row

    def _weigh(self, trial: RecordedTrial) -> None:
        """Let a completed trial be the best, if it is."""
        self.prompted |= bool(trial.oracle_prompt)
        if trial.completed and trial.reference is None:
            self.points.append((bool(trial.oracle_prompt), trial.values))
            self.best = best([trial] if self.best is None else [self.best, trial])

    @property
    def finished(self) -> int:
        """How many trials of the study's number have ended in this run."""
        return sum(count for kind, count in self.counts.items() if kind not in KIND_OF or KIND_OF[kind].counts)

    @property
    def eta(self) -> float | None:
        """Seconds that are left, or None while nothing has ended."""
        if not self.finished:
            return None
        return (time.monotonic() - self.started) / self.finished * max(self.trials() - self.before - self.finished, 0)

    def __rich__(self) -> Group:
        names = Column("trial", overflow="fold")  # cut, two long arms could be one
        table = Table(names, "state", "epoch", "val dice", title_justify="left", box=None, pad_edge=False)
        running = [number for number, row in self.rows.items() if row.state == "running"]
        others = [number for number in self.rows if number not in running]
        room = min(max(_SHOWN - len(running), 0), len(others))
        for number in sorted(others[len(others) - room :] + running):
            row = self.rows[number]
            mark = "*" if self.best is not None and self.best.number == number else ""
            score = "" if row.score is None else f"{row.score:.4f}{mark}{_dagger(row.oracle)}"
            table.add_row(Text(row.name), row.state, f"{row.epoch}/{row.epochs}", score)
        return Group(table, self._line(), ProgressBar(self.trials(), self.before + self.finished, width=40))

    def _line(self) -> Text:
        parts = [f"{self.before + self.finished} of {self.trials()} trials"]
        kinds = sorted(self.earlier.keys() | self.counts.keys())
        parts += [f"{self.earlier.get(k, 0) + self.counts.get(k, 0)} {k.replace('_', ' ')}" for k in kinds]
        parts += self._best()
        if len(self.objectives) > 1 and self.points:
            least = min(oracle for oracle, _ in self.points)
            points = [values for oracle, values in self.points if oracle == least]
            on = sum(front(points, [DIRECTIONS[name] for name in self.objectives]))
            parts.append(f"{on} on the Pareto front")
        parts += self._left()
        if self.prompted:
            parts.append(f"{ORACLE} prompted from ground truth")
        return Text(", ".join(parts))

    def _best(self) -> list[str]:
        if self.best is None:
            return []
        return [f"best {self.best.values[0]:.4f}{_dagger(self.best.oracle_prompt)} (trial {self.best.number})"]

    def _left(self) -> list[str]:
        if self.eta is None:
            return []
        return [f"about {self.eta / 60:.0f} min left" if self.eta > 90 else f"about {self.eta:.0f} s left"]


def _dagger(oracle: bool | None) -> str:
    return f" {ORACLE}" if oracle else ""


def _kind(trial: RecordedTrial) -> str:
    """How a trial ended, or how it came by an outcome without being trained."""
    if trial.reused_from is not None:
        return "reused"
    return "copied" if trial.copied_from is not None else str(trial.outcome)


def _name(trial: RecordedTrial) -> str:
    """The trial's number; of an ablation's its arm and replicate, too, of a probe's or a reference that it is one."""
    cell = trial.params
    if trial.reference is not None:
        return f"{trial.number} {trial.reference}"
    if trial.probe:
        return f"{trial.number} probe"
    return f"{trial.number} {cell['arm']}, seed {cell['seed']}" if "arm" in cell else str(trial.number)
