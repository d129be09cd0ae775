"""The scores of an ablation, and contrasts between its arms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from harness.text import listed

Floats = npt.NDArray[np.float64]
FOLDS = 5
"""The folds that a replicate can have, from 0 on (``sam2lora.config.Replicate``)."""


@dataclass(frozen=True)
class Pair:
    """A replicate: trials of equal pair saw the same draws and the same fold, whatever their arm."""

    seed: int
    fold: int


def continued(pairs: Sequence[Pair], more: int) -> tuple[Pair, ...]:
    """The ``more`` replicates that come after ``pairs`` (one or more), by the rule that these follow.

    As `harness.experiments.replicates` declares them: where seeds lie on several folds, or all on one, every new seed
    goes through the same folds; else a new seed has the next fold in turn, of those seen once they repeat, of all
    `FOLDS` before.
    """
    folds, seeds, count = sorted({pair.fold for pair in pairs}), {pair.seed for pair in pairs}, len(pairs)
    if len(seeds) < count or len(folds) == 1:
        row = len(folds)
        begun = max(seeds) - (count - 1) // row
        return tuple(Pair(begun + place // row, folds[place % row]) for place in range(count, count + more))
    turns = folds if len(folds) < count else [*folds, *(fold for fold in range(FOLDS) if fold not in folds)]
    return tuple(Pair(max(seeds) + 1 + k, turns[(count + k) % len(turns)]) for k in range(more))


@dataclass(frozen=True)
class Target:
    """One test set of an ablation with its scores in every arm and replicate.

    ``scores``: (arms, replicates, images); NaN where the image's score is undefined, or where the trial has no
    completed result. ``patients``: (images,), images of equal name belong to one patient. ``pools``: whose patients
    they are; those of equal name in two targets that share a pool are one patient.
    """

    name: str
    scores: Floats
    patients: npt.NDArray[np.str_]
    pools: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.scores.ndim != 3 or self.scores.shape[2] != len(self.patients):
            raise ValueError(
                f"Scores of {self.name} must be (arms, replicates, images) with one patient for each image, but their "
                f"shape is {self.scores.shape} and there are {len(self.patients)} patients: give an entry for each."
            )


@dataclass(frozen=True)
class Cells:
    """What an ablation measured: ``targets``, each (arms, replicates, images), over the same arms and replicates.

    ``finished``: (arms, replicates), whether the trial completed; a trial that did not is NaN in every target. Raises
    ``ValueError`` when shapes disagree or a name is there twice.
    """

    arms: tuple[str, ...]
    replicates: tuple[Pair, ...]
    targets: tuple[Target, ...]
    finished: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        for what, names in (("arms", self.arms), ("replicates", self.replicates)):
            if len(set(names)) < len(names):
                raise ValueError(f"The {what} of an ablation must differ, but they are {names}: leave out the copies.")
        shape = (len(self.arms), len(self.replicates))
        for name, found in [("finished", self.finished.shape), *((t.name, t.scores.shape[:2]) for t in self.targets)]:
            if found != shape:
                raise ValueError(f"{name} must be {shape} arms by replicates, but is {found}: give all of them.")

    def without(self, arm: str | None) -> Cells:
        """The scores of all arms but one; all of them where it is None or not among them."""
        kept = [place for place, name in enumerate(self.arms) if name != arm]
        if len(kept) == len(self.arms):
            return self
        targets = tuple(replace(target, scores=target.scores[kept]) for target in self.targets)
        return Cells(tuple(self.arms[place] for place in kept), self.replicates, targets, self.finished[kept])

    def means(self) -> Floats:
        """(arms, replicates, targets): the mean over the images with a defined score; NaN where there is none."""
        return np.stack([_mean(target.scores, axis=2) for target in self.targets], axis=2)

    def complete(self) -> npt.NDArray[np.bool_]:
        """(arms, replicates): which trials completed and have a score on every target where any trial has one."""
        scored = np.isfinite(self.means())
        complete: npt.NDArray[np.bool_] = self.finished & scored[:, :, scored.any(axis=(0, 1))].all(axis=2)
        return complete


@dataclass(frozen=True)
class Contrast:
    """A weighted difference of arms, ``weights`` by arm name, that sum to zero; other arms have weight 0.

    A positive value means that whatever has positive weight scores higher. Raises ``ValueError`` otherwise.
    """

    name: str
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        if not any(self.weights.values()) or not math.isclose(sum(self.weights.values()), 0.0, abs_tol=1e-9):
            raise ValueError(
                f"The weights of contrast {self.name} must sum to 0 and not all be 0, but are {dict(self.weights)}: "
                f"give what is compared positive weights and what it is compared with negative ones."
            )

    def vector(self, arms: Sequence[str]) -> Floats:
        """(arms,): the weights in the order of ``arms``. Raises ``ValueError`` for an arm that is not among them."""
        if unknown := set(self.weights) - set(arms):
            raise ValueError(f"Contrast {self.name} must name arms of {', '.join(arms)}, but names {sorted(unknown)}.")
        return np.array([self.weights.get(arm, 0.0) for arm in arms], dtype=np.float64)

    def sides(self) -> tuple[str, str]:
        """The arms with positive and those with negative weight, in words; with their weights where these differ."""
        return self._side(1.0), self._side(-1.0)

    def _side(self, sign: float) -> str:
        arms = {arm: abs(weight) for arm, weight in self.weights.items() if weight * sign > 0}
        if len({round(weight, 9) for weight in arms.values()}) > 1:
            return " + ".join(f"{weight:.3g} x ({arm})" for arm, weight in arms.items())
        if len(arms) > 1:
            return "mean of " + listed(tuple(f"({arm})" for arm in arms))
        return "".join(arms)


def _mean(values: Floats, axis: int) -> Floats:
    defined = np.isfinite(values)
    count = defined.sum(axis=axis)
    total = np.where(defined, values, 0.0).sum(axis=axis)
    means: Floats = np.divide(total, count, out=np.full(total.shape, math.nan), where=count > 0)
    return means
