"""The objectives that a search can have: names, directions, worst values. Loads nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from harness.record.outcome import WORST as WORST_SCORE

Objective = Literal["val/dice", "trainable_parameters", "train_seconds"]
"""``val/dice``: mean Dice over the validation images of the sources, averaged over sources; what ranks trials.
``trainable_parameters``: how many the adapter has. ``train_seconds``: seconds of training, without setting up and
evaluating, as measured on the machine that ran the trial: another machine, or a busier one, measures others."""

DIRECTIONS: dict[Objective, Literal["maximize", "minimize"]] = {
    "val/dice": "maximize",
    "trainable_parameters": "minimize",
    "train_seconds": "minimize",
}
WORST: dict[Objective, float] = {"val/dice": WORST_SCORE, "trainable_parameters": math.inf, "train_seconds": math.inf}
"""The values of a trial that must not be repeated: whatever it cost, it is on no Pareto front."""


def values(objectives: Sequence[Objective], score: float, cost: Mapping[str, float]) -> list[float]:
    """The objectives of a completed trial: its score, and what its cost says. Raises ``KeyError`` if it does not."""
    return [score if name == "val/dice" else float(cost[name]) for name in objectives]


def front(points: Sequence[Sequence[float]], directions: Sequence[str]) -> list[bool]:
    """Whether each of ``points`` is on the Pareto front: no other is as good in every objective and better in one.

    ``directions``: ``maximize`` or ``minimize``, one for each value of a point. Equal points share their place.
    """
    signs = [1.0 if direction == "maximize" else -1.0 for direction in directions]
    gains = [tuple(sign * value for sign, value in zip(signs, point, strict=True)) for point in points]
    return [not any(_dominates(other, gain) for other in gains) for gain in gains]


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def worst(objectives: Sequence[Objective]) -> list[float]:
    """The worst value of every objective."""
    return [WORST[name] for name in objectives]
