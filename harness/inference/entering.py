"""Which scores enter an estimate: decided in one place, for differences of arms and for arms on their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.inference.cells import Cells, Floats, Pair
from harness.inference.crossed import per_patient

FEWEST = 3
"""Replicates below which no interval is given: two differ by chance as they like."""


@dataclass(frozen=True)
class Entering:
    """What of the cells enters a weighted sum of arms: ``values``, per target (replicates, patients), over ``pairs``.

    ``images``, ``undefined``: how many enter, and how many an arm has no score for. ``why``: why there is no interval,
    empty where there is one.
    """

    values: tuple[Floats, ...]
    pairs: tuple[Pair, ...]
    images: int
    undefined: int
    why: str

    def means(self) -> Floats:
        """(replicates,): over patients, then over targets; one NaN where a target has nothing."""
        if not self.values or not all(value.size for value in self.values):
            return np.full(1, math.nan)
        means: Floats = np.mean([value.mean(axis=1) for value in self.values], axis=0)
        return means


def entering(cells: Cells, weights: Floats, target: str | None) -> Entering:
    """The sum of the arms by ``weights`` (arms,) on ``target``, or on all targets (None), where it is defined.

    A replicate enters where every arm with a weight completed and has a defined score on each target; an image enters
    where its score is defined in all of these cells. A target without any score in some replicate costs no replicate:
    it leaves the estimate undefined, and ``why`` names it. Raises ``ValueError`` for a target that is not there.
    """
    wanted = [found for found in cells.targets if target in (None, found.name)]
    if not wanted:
        names = ", ".join(found.name for found in cells.targets)
        raise ValueError(f"A target must be one of {names}, but is {target!r}: name one of these, or None for all.")
    arms = np.flatnonzero(weights)
    replicates: npt.NDArray[np.bool_] = np.logical_and.reduce(cells.finished[arms], axis=0)
    empty = []
    for found in wanted:
        scored = np.isfinite(found.scores[arms]).any(axis=2).all(axis=0) & replicates
        if scored.any():
            replicates = replicates & scored
        elif replicates.any():
            empty.append(found.name)
    values, images, undefined, alone = [], 0, 0, []
    for found in wanted:
        scores = found.scores[arms][:, replicates]
        defined = np.isfinite(scores).all(axis=(0, 1)) & replicates.any()
        images += int(defined.sum())
        undefined += int((~defined).sum())
        if not defined.any():
            values.append(np.empty((int(replicates.sum()), 0)))
            empty = empty if found.name in empty or not replicates.any() else [*empty, found.name]
            continue
        patients = found.patients[defined]
        alone += [found.name] if len(np.unique(patients)) < 2 else []
        values.append(_weighted(scores[:, :, defined], weights[arms]) @ per_patient(patients))
    pairs = tuple(pair for pair, kept in zip(cells.replicates, replicates.tolist(), strict=True) if kept)
    return Entering(tuple(values), pairs, images, undefined, _why(len(pairs), empty, alone))


def _weighted(scores: Floats, weights: Floats) -> Floats:
    """(replicates, images): the weighted sum over arms, exactly 0 where it is 0 but for rounding."""
    values: Floats = np.tensordot(weights, scores, axes=1)
    rounding = 8.0 * np.finfo(np.float64).eps * np.tensordot(np.abs(weights), np.abs(scores), axes=1)
    return np.where(np.abs(values) <= rounding, 0.0, values)


def _why(replicates: int, empty: Sequence[str], alone: Sequence[str]) -> str:
    """Why there is no interval, empty where there is one."""
    if replicates < FEWEST:
        return f"only {replicates} replicates completed in all of its arms; an interval takes {FEWEST}"
    if empty:
        return f"no image of {', '.join(empty)} has a score in all of its arms and replicates; leave the target out"
    if alone:
        return f"{', '.join(alone)} has one patient, from which no variance can be estimated; leave the target out"
    return ""
