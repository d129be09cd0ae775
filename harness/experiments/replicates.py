"""Replicates: the seed and validation fold of every run of an arm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.stats.scores import FOLDS
from sam2lora.config import Replicate


@dataclass(frozen=True)
class Replicates:
    """The first ``count`` of an endless sequence of replicates: ``at(k)`` is replicate k, from 0."""

    count: int
    at: Callable[[int], Replicate]

    def all(self) -> tuple[Replicate, ...]:
        """The replicates, in order."""
        return tuple(self.at(place) for place in range(self.count))


def replicates(n: int) -> Replicates:
    """n replicates with different seeds: seed k validates on fold k mod 5."""
    return Replicates(n, lambda place: _replicate(place, place))


def grid(*, seeds: int, folds: int) -> Replicates:
    """Every seed with every fold, up to five, so that their shares of the spread can be distinguished."""
    if not 1 <= folds <= FOLDS:
        raise ValueError(f"There are {FOLDS} folds, but folds is {folds}: choose 1 to {FOLDS}.")
    return Replicates(seeds * folds, lambda place: _replicate(place // folds, place % folds))


def _replicate(seed: int, fold: int) -> Replicate:
    return Replicate(seed=seed, fold=fold % FOLDS)  # type: ignore[arg-type]
