"""What Ray sees of trials, written into the record: every epoch, and how each trial ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.tune import Callback

from harness.errors import TooManyFailures
from harness.execution.searcher import Searcher
from harness.record import optuna_writer
from harness.record.outcome import TEST_RESULTS, Completed, Crashed, Diverged, Outcome, OutOfMemory, Stopped
from sam2lora.errors import DamagedFile
from sam2lora.integrity import read_result

CRASHES_IN_A_ROW = 3
"""So many crashed trials, one after the other, end a run: the fault is not in their settings."""


class RecordTrials(Callback):
    """Records the epochs and the outcomes of the trials that a searcher handed out.

    After `CRASHES_IN_A_ROW` crashes, one of ``failures`` says so.
    """

    def __init__(self, searcher: Searcher) -> None:
        self.searcher = searcher
        self.crashes_in_a_row = 0
        self.failures: list[TooManyFailures] = []

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Record an epoch. Replayed epochs of a resumed trial are passed over."""
        ours, entry = self.searcher.open[trial.trial_id], result["entry"]
        ours.cost = result["cost"] or ours.cost
        if "warning" in result:
            self.searcher.warn(ours.trial.number, result["warning"])
        if entry is None or any(known["epoch"] == entry["epoch"] for known in ours.curve):
            return
        ours.curve.append(entry)
        optuna_writer.report(ours.trial, entry["epoch"], entry["score"])
        reached = self.searcher.record.trial(ours.trial.number)
        for listener in self.searcher.listeners:
            listener.advanced(reached, entry)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record how a trial ended: by itself, or stopped by the scheduler."""
        if trial.trial_id in self.searcher.open:
            self.searcher.close(trial.trial_id, self._outcome(trial))
            self.crashes_in_a_row = 0

    def _outcome(self, trial: Any) -> Outcome:
        result = trial.last_result
        epoch = int(result["epoch"])
        match result["outcome"]:
            case "completed":
                key = self.searcher.open[trial.trial_id].key
                try:
                    sealed = read_result(self.searcher.record.files(key))
                except (DamagedFile, OSError) as error:
                    return Crashed(epoch, str(error))
                # An earlier version may have sealed it with less; `Completed` insists on what it needs.
                named = {name: sealed[name] for name in TEST_RESULTS if name in sealed}
                return Completed(epoch=epoch, score=result["score"], **named)
            case "diverged":
                return Diverged(epoch, result["why"])
            case "out_of_memory":
                return OutOfMemory(epoch, result["why"])
            case _:
                return Stopped(epoch, result["score"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a crash that outlived its retries; after several in a row, give up with the last reason."""
        if trial.trial_id not in self.searcher.open:
            return
        epoch = len(self.searcher.open[trial.trial_id].curve)
        text = Path(trial.error_file).read_text() if trial.error_file else ""
        why = reason(text)
        if "ray.exceptions.OutOfMemoryError" in text:  # Ray kills a worker before the machine runs out
            self.searcher.close(trial.trial_id, OutOfMemory(epoch + 1, why))
            return
        self.searcher.close(trial.trial_id, Crashed(epoch, why))
        self.crashes_in_a_row += 1
        if self.crashes_in_a_row >= CRASHES_IN_A_ROW:
            failure = TooManyFailures(
                f"Trials must run, but {self.crashes_in_a_row} crashed one after the other, the last one with: {why}\n"
                f"Fix the cause and run the same command again; what was finished is kept."
            )
            self.failures.append(failure)


def reason(text: str) -> str:
    """Why a trial crashed, in one line of what Ray wrote about its failures: the last one's exception."""
    last = text.rpartition("Failure # ")[2]
    lines = [line.strip() for line in last.splitlines()[1:] if line.strip()]
    if not lines:
        return "the worker process died and left no reason, as when it is killed or memory runs out"
    return lines[-1] if any(line.startswith("Traceback") or "ray::" in line for line in lines) else lines[0]
