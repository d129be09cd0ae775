"""Complete cases: the scores that enter an estimate, of a difference of arms or of a single arm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from harness.stats.crossed_variance import Parts, crossed, per_patient, target_mean, weights
from harness.stats.imputation import Gaps, gaps, impute, usable
from harness.stats.scores import Cells, Floats, Pair, Target

FEWEST = 3
"""Replicates below which no interval is given: two differ by chance as they like."""


@dataclass(frozen=True)
class CompleteCases:
    """The scores that enter a weighted sum of arms: ``values``, per target (replicates, patients), over ``pairs``.

    Targets that share patients are one here, the mean of both. ``shares``: as `crossed_variance.crossed` takes them.
    ``gaps``: what was imputed, None for nothing. ``images``, ``undefined``: how many enter, and how many an arm has
    no score for. ``why``: why there is no interval, empty where there is one.
    """

    values: tuple[Floats, ...]
    shares: tuple[Floats, ...]
    pairs: tuple[Pair, ...]
    images: int
    undefined: int
    why: str
    gaps: Gaps | None = None

    def means(self) -> Floats:
        """(replicates,): over patients, then over targets; one NaN where a target has nothing."""
        if not self.pairs or not self.values or not all(value.size for value in self.values):
            return np.full(1, math.nan)
        return target_mean(self.values, self.shares)

    def parts(self) -> Parts:
        """The estimate with its variance; there is one unless ``why`` says otherwise."""
        return crossed(self.values, self.pairs, self.shares, self.gaps)

    def estimate(self) -> float:
        """The mean over replicates, by `crossed_variance.weights`; NaN where there is nothing to average."""
        means = self.means()
        return float(means @ weights(self.pairs)) if np.isfinite(means).all() else math.nan


def complete_cases(cells: Cells, by_arm: Floats, target: str | None) -> CompleteCases:
    """The sum of the arms by ``by_arm`` (arms,) on ``target``, or on all targets (None), where it is defined.

    A replicate enters where every arm with a weight, or enough of them to impute the others (`imputation.usable`),
    completed and has a defined score on each target; an image enters where its score is defined in all of these cells.
    A target without any score in some replicate costs no replicate: it leaves the estimate undefined, and ``why`` names
    it. Raises ``ValueError`` for a target that is not there.
    """
    wanted = [found for found in cells.targets if target in (None, found.name)]
    if not wanted:
        names = ", ".join(found.name for found in cells.targets)
        raise ValueError(f"A target must be one of {names}, but is {target!r}: name one of these, or None for all.")
    arms = np.flatnonzero(by_arm)
    runs: npt.NDArray[np.bool_] = cells.finished[arms]
    empty: list[str] = []
    for found in wanted:
        scored = np.isfinite(found.scores[arms]).any(axis=2) & runs
        if usable(scored, FEWEST).any():
            runs = scored
        elif usable(runs, FEWEST).any():
            empty.append(found.name)
    replicates = usable(runs, FEWEST)
    present = runs[:, replicates]
    pairs = tuple(pair for pair, kept in zip(cells.replicates, replicates.tolist(), strict=True) if kept)
    defined = {found.name: _defined(found.scores[arms][:, replicates][present]) for found in wanted}
    if pairs:
        empty += [name for name, images in defined.items() if not images.any() and name not in empty]
    values, shares, alone = [], [], []
    means = np.zeros(present.shape)
    unmatched: list[list[str]] = []
    for together in sharing(wanted):
        named = [found.name for found in together]
        if not all(defined[name].any() for name in named):
            values.append(np.empty((len(pairs), 0)))
            shares.append(np.empty(0))
            continue
        matrix, share = per_patient(*(found.patients[defined[found.name]] for found in together))
        scores = impute(
            np.concatenate([found.scores[arms][:, replicates][:, :, defined[found.name]] for found in together], 2),
            present,
        )
        means += (scores @ matrix).mean(axis=2) * (len(together) / len(wanted))
        values.append(_weighted(scores, by_arm[arms]) @ matrix)
        shares.append(share * (len(together) / len(wanted)))
        alone += [" and ".join(named)] * (len(share) == 1)
        unmatched += [named] * (not matched(together))
    return CompleteCases(
        values=tuple(values),
        shares=tuple(shares),
        pairs=pairs,
        images=sum(int(images.sum()) for images in defined.values()),
        undefined=sum(int((~images).sum()) for images in defined.values()),
        why=_why(len(pairs), empty, alone, unmatched),
        gaps=gaps(means, present, by_arm[arms]),
    )


def _defined(scores: Floats) -> npt.NDArray[np.bool_]:
    """(images,): which have a score in all of ``scores`` (runs, images), none where there are no runs."""
    if not len(scores):
        return np.zeros(scores.shape[1], dtype=np.bool_)
    defined: npt.NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(scores), axis=0)
    return defined


def sharing(targets: Sequence[Target]) -> list[list[Target]]:
    """The targets, those together that share patients with one another or with a third."""
    groups: list[list[Target]] = []
    for target in targets:
        apart = [group for group in groups if not any(target.pools & other.pools for other in group)]
        joined = [other for group in groups if group not in apart for other in group]
        groups = [*apart, [*joined, target]]
    return groups


def matched(targets: Sequence[Target]) -> bool:
    """Whether the names tell which patients the targets share: those of one are all among those of the next larger."""
    names = sorted((set(target.patients.tolist()) for target in targets), key=len)
    return all(fewer <= more for fewer, more in pairwise(names))


def _weighted(scores: Floats, weights: Floats) -> Floats:
    """(replicates, images): the weighted sum over arms, exactly 0 where it is 0 but for rounding."""
    values: Floats = np.tensordot(weights, scores, axes=1)
    rounding = 8.0 * np.finfo(np.float64).eps * np.tensordot(np.abs(weights), np.abs(scores), axes=1)
    return np.where(np.abs(values) <= rounding, 0.0, values)


def _why(replicates: int, empty: Sequence[str], alone: Sequence[str], unmatched: Sequence[Sequence[str]]) -> str:
    """Why there is no interval, empty where there is one."""
    if replicates < FEWEST:
        return f"only {replicates} replicates completed in all of its arms; an interval takes {FEWEST}"
    if empty:
        return f"no image of {', '.join(empty)} has a score in all of its arms and replicates; leave the target out"
    if alone:
        return f"{', '.join(alone)} has one patient, from which no variance can be estimated; leave the target out"
    if unmatched:
        named = "; ".join(" and ".join(names) for names in unmatched)
        return f"{named} share patients, but their names do not say which; judge on one of these targets"
    return ""
