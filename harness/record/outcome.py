"""How a trial ended: a sum type, so that a truncated score cannot be mistaken for a final one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

WORST = 0.0
"""The worst value of the objective: Dice 0. Diverged trials are told with it, so that a sampler stays away."""


@dataclass(frozen=True)
class Completed:
    """All epochs ran and the test images were scored.

    ``score``: the objective after the last epoch. ``scores``: ``"<dataset>/<metric>"`` -> mean over the test images on
    which the metric is defined; ``n_images`` and ``roles`` (``"source"`` or ``"target"``) by data set;
    ``validation``: the last epoch's mean per source. ``undefined``: how many images a mean of ``scores`` leaves out,
    where it leaves any; ``threshold``: the probability above which a pixel was predicted, None if nothing was judged.
    Both are None for a result that a version sealed which did not tell them.
    """

    epoch: int
    score: float
    scores: dict[str, float]
    n_images: dict[str, int]
    roles: dict[str, str]
    validation: dict[str, float]
    undefined: dict[str, int] | None = None
    threshold: float | None = None


JUDGED = ("scores", "n_images", "roles", "validation", "undefined", "threshold")
"""What the judging of a completed trial tells: fields of `Completed`, of the sealed result and of the record."""


@dataclass(frozen=True)
class Stopped:
    """The scheduler stopped it after ``epoch``: ``score`` is where it stood, not where it would have ended."""

    epoch: int
    score: float


@dataclass(frozen=True)
class Diverged:
    """Loss or gradient ceased to be a number in ``epoch``: the settings are at fault."""

    epoch: int
    why: str


@dataclass(frozen=True)
class OutOfMemory:
    """The device was too small for these settings: infeasible here, and no use to try again."""

    epoch: int
    why: str


@dataclass(frozen=True)
class Infeasible:
    """The settings miss a constraint of the search: never trained, and no trial of the study's number."""

    epoch: int
    why: str


@dataclass(frozen=True)
class Crashed:
    """Anything else, after its retries: says nothing about the settings."""

    epoch: int
    why: str


Outcome = Completed | Stopped | Diverged | OutOfMemory | Infeasible | Crashed

KINDS: dict[type[Any], str] = {
    Completed: "completed",
    Stopped: "stopped",
    Diverged: "diverged",
    OutOfMemory: "out_of_memory",
    Infeasible: "infeasible",
    Crashed: "crashed",
}
"""The name of each outcome in the record."""
