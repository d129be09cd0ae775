"""How a trial ended: a sum type, so that a truncated score cannot be mistaken for a final one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

WORST = 0.0
"""The worst value of the objective: Dice 0. A diverged trial has it, so that a sampler stays away."""


@dataclass(frozen=True)
class Completed:
    """All epochs ran and the test images were scored.

    ``score``: the objective after the last epoch. ``scores``: ``"<dataset>/<metric>"`` -> mean over the test images on
    which the metric is defined; ``n_images`` and ``roles`` (``"source"`` or ``"target"``) by data set;
    ``validation``: the last epoch's mean per source. ``undefined``: how many images a mean of ``scores`` leaves out,
    where it leaves any; ``threshold``: the probability above which a pixel was predicted, None without test images.
    ``files``: the sha256 of what it left, by file name. Each is None in a result of a version that did not record it.
    """

    epoch: int
    score: float
    scores: dict[str, float]
    n_images: dict[str, int]
    roles: dict[str, str]
    validation: dict[str, float]
    undefined: dict[str, int] | None = None
    threshold: float | None = None
    files: dict[str, str] | None = None


TEST_RESULTS = ("scores", "n_images", "roles", "validation", "undefined", "threshold", "files")
"""The fields of `Completed` that testing yields; they have the same names in the trial's result file and record."""


@dataclass(frozen=True)
class Stopped:
    """The scheduler stopped it after ``epoch``, where it had ``score``: not the score that it would have ended with."""

    epoch: int
    score: float


@dataclass(frozen=True)
class Diverged:
    """The loss or a gradient was no longer finite in ``epoch``: the settings are at fault."""

    epoch: int
    why: str


@dataclass(frozen=True)
class OutOfMemory:
    """These settings need more memory than the device has: trying again would not help."""

    epoch: int
    why: str


@dataclass(frozen=True)
class Infeasible:
    """The settings miss a constraint of the search: never trained, and no trial of the study's number."""

    epoch: int
    why: str


@dataclass(frozen=True)
class Crashed:
    """Any other error, after the retries: it says nothing about the settings."""

    epoch: int
    why: str


Outcome = Completed | Stopped | Diverged | OutOfMemory | Infeasible | Crashed


@dataclass(frozen=True)
class Kind:
    """What follows from how a trial ended, wherever it is kept or counted.

    ``name``: in the record and in MLflow's tag. ``state``: the one that Optuna is given, so that a sampler learns from
    it what it should; a record in which the two disagree was not written by this harness. ``run_status``: of the run in
    MLflow, which shows all but FINISHED as faults; a stopped trial is none. ``counts``: whether it is one of the trials
    that a study was asked for; one that does not count is replaced.
    """

    name: str
    state: Literal["COMPLETE", "PRUNED", "FAIL"]
    run_status: Literal["FINISHED", "FAILED"]
    counts: bool = True


KINDS: dict[type[Any], Kind] = {
    Completed: Kind("completed", "COMPLETE", "FINISHED"),
    Stopped: Kind("stopped", "PRUNED", "FINISHED"),
    Diverged: Kind("diverged", "COMPLETE", "FAILED"),
    OutOfMemory: Kind("out_of_memory", "PRUNED", "FAILED"),
    Infeasible: Kind("infeasible", "COMPLETE", "FAILED", counts=False),
    Crashed: Kind("crashed", "FAIL", "FAILED", counts=False),
}
"""Every outcome, in the order in which people are shown them."""

KIND_OF = {kind.name: kind for kind in KINDS.values()}
"""The kinds by their names in a record."""
