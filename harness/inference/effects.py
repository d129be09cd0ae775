"""Effects: contrasts of arms, estimated on each target and on all together, with intervals and p-values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.inference.bootstrap import pigeonhole
from harness.inference.cells import Cells, Contrast, Floats, Pair
from harness.inference.crossed import Parts, crossed, per_patient
from harness.inference.permutation import floor, sign_flip
from harness.inference.refused import Refused

FEWEST = 3
"""Replicates below which no interval is given: two differ by chance as they like."""


@dataclass(frozen=True)
class Source:
    """A part of an estimate's variance and its degrees of freedom: replicates, or what they share, or images."""

    name: str
    variance: float
    df: float


@dataclass(frozen=True)
class Effect:
    """A contrast on ``target``, or on all targets with equal weight where that is None. In units of the metric.

    ``estimate``: mean over the replicates of the mean over images (of the mean over targets). ``low``, ``high``:
    interval of coverage ``level``; ``se``, ``df``: standard error, and degrees of freedom of its replicates' part;
    ``p``: two-sided, against 0, of this contrast alone (``crossed.Parts``). ``flip_p``, ``flip_floor``: sign flips over
    replicates, and the smallest p they can give; NaN where they are refused (``permutation.sign_flip``). ``boot_low``,
    ``boot_high``: the pigeonhole bootstrap's interval.
    ``replicates`` of ``declared`` were used, ``images`` of ``patients`` patients; ``undefined``: images left out
    because an arm has no score for them. ``share_of_replicates``: the part of the variance that more replicates shrink.
    ``sources``: the variance in parts; ``residual``: what they contain of the single cells' own; ``own``: what single
    replicates, seeds and folds add (``crossed.own_variances``), by name. ``pairs``: the replicates used. ``why``: why
    there is no interval, empty where there is one; without it all but ``estimate`` and the counts is NaN, and
    ``estimate`` too if there is nothing to average.
    """

    contrast: str
    target: str | None
    estimate: float
    low: float
    high: float
    se: float
    df: float
    p: float
    flip_p: float
    flip_floor: float
    boot_low: float
    boot_high: float
    replicates: int
    declared: int
    images: int
    patients: int
    undefined: int
    share_of_replicates: float
    level: float = 0.95
    sources: tuple[Source, ...] = ()
    residual: float = math.nan
    own: tuple[tuple[str, float], ...] = ()
    pairs: tuple[Pair, ...] = ()
    why: str = ""

    def parts(self) -> Parts:
        """Estimate and variance as arrays without axes but the parts'. Raises ``ValueError`` without an interval."""
        if self.why:
            raise ValueError(f"{self.contrast} must have an interval to be tested, but has none: {self.why}")
        return Parts(
            estimate=np.array(self.estimate),
            names=tuple(source.name for source in self.sources),
            variances=np.array([source.variance for source in self.sources]),
            degrees=np.array([source.df for source in self.sources]),
            residual=np.array(self.residual),
            own={name: np.array(variance) for name, variance in self.own},
        )

    def row(self) -> dict[str, Any]:
        """The effect as a row of a table: whatever is one number or one word."""
        return {name: value for name, value in vars(self).items() if not isinstance(value, tuple)}


@dataclass(frozen=True)
class _Used:
    """What of the cells enters a contrast: per target (replicates, patients), the replicates, and counts."""

    values: tuple[Floats, ...]
    pairs: tuple[Pair, ...]
    images: int
    undefined: int
    why: str


def effects(
    cells: Cells, contrasts: Sequence[Contrast], rng: np.random.Generator, level: float = 0.95
) -> tuple[Effect, ...]:
    """Every contrast on all targets together, then on each of them, in the order given."""
    targets = [None, *(target.name for target in cells.targets)]
    return tuple(effect(cells, contrast, target, rng, level) for contrast in contrasts for target in targets)


def effect(
    cells: Cells, contrast: Contrast, target: str | None, rng: np.random.Generator, level: float = 0.95
) -> Effect:
    """``contrast`` on ``target``, or on all targets (None).

    A replicate enters where every arm of the contrast completed and has a defined score on each target; an image
    enters where its score is defined in all of these cells. Fewer than three replicates, a target of one patient or
    without a common image: no interval, and ``why`` says so. Raises ``ValueError`` for a target that is not there.
    """
    used = _used(cells, contrast, target)
    known: dict[str, Any] = {
        "contrast": contrast.name, "target": target, "replicates": len(used.pairs), "declared": len(cells.replicates),
        "images": used.images, "patients": sum(value.shape[1] for value in used.values), "undefined": used.undefined,
        "level": level, "pairs": used.pairs,
    }  # fmt: skip
    filled = bool(used.values) and all(value.size for value in used.values)
    means = np.mean([value.mean(axis=1) for value in used.values], axis=0) if filled else np.full(1, math.nan)
    if used.why:
        blank: dict[str, Any] = dict.fromkeys(
            ("low", "high", "se", "df", "p", "flip_p", "flip_floor", "boot_low", "boot_high", "share_of_replicates"),
            math.nan,
        )
        return Effect(estimate=float(means.mean()), why=used.why, **known, **blank)
    parts = crossed(used.values, used.pairs)
    total, margin = float(parts.total()), float(parts.margin(level))
    flips = sign_flip(means, used.pairs, rng)
    low, high = pigeonhole(used.values, used.pairs, rng, level)
    return Effect(
        estimate=float(parts.estimate),
        low=float(parts.estimate) - margin,
        high=float(parts.estimate) + margin,
        se=math.sqrt(total),
        df=float(parts.degrees[:-1].min()),
        p=float(parts.p()),
        flip_p=math.nan if isinstance(flips, Refused) else float(flips),
        flip_floor=math.nan if isinstance(flips, Refused) else floor(used.pairs),
        boot_low=float(low),
        boot_high=float(high),
        share_of_replicates=1.0 - float(parts.fixed()) / total if total > 0.0 else math.nan,
        sources=tuple(map(Source, parts.names, parts.variances.tolist(), parts.degrees.tolist())),
        residual=float(parts.residual),
        own=tuple((name, float(variance)) for name, variance in parts.own.items()),
        **known,
    )


def _used(cells: Cells, contrast: Contrast, target: str | None) -> _Used:
    wanted = [found for found in cells.targets if target in (None, found.name)]
    if not wanted:
        names = ", ".join(found.name for found in cells.targets)
        raise ValueError(f"A target must be one of {names}, but is {target!r}: name one of these, or None for all.")
    weights = contrast.vector(cells.arms)
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
        values.append(_contrast(scores[:, :, defined], weights[arms]) @ per_patient(patients))
    pairs = tuple(pair for pair, kept in zip(cells.replicates, replicates.tolist(), strict=True) if kept)
    return _Used(tuple(values), pairs, images, undefined, _why(len(pairs), empty, alone))


def _contrast(scores: Floats, weights: Floats) -> Floats:
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
