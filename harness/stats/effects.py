"""Effects: contrasts of arms, estimated on each target and on all together, with intervals and p-values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.stats.bootstrap import pigeonhole
from harness.stats.complete_cases import entering
from harness.stats.crossed_variance import Parts
from harness.stats.permutation import floor, sign_flip
from harness.stats.refusal import Refused
from harness.stats.scores import Cells, Contrast, Pair


@dataclass(frozen=True)
class Source:
    """A part of an estimate's variance and its degrees of freedom: replicates, or what they share, or images."""

    name: str
    variance: float
    df: float


@dataclass(frozen=True)
class Effect:
    """A contrast on ``target``, or on all targets with equal weight where that is None. In units of the metric.

    ``estimate``: mean over the replicates (over those of each fold, then over folds, where folds are shared) of the
    mean over images (of the mean over targets). ``low``, ``high``: interval of coverage ``level``; ``se``, ``df``:
    standard error, and degrees of freedom of its replicates' part;
    ``p``: two-sided, against 0, of this contrast alone (``crossed.Parts``). ``flip_p``, ``flip_floor``: sign flips over
    replicates, and the smallest p they can give; NaN where they are refused (``permutation.sign_flip``). ``boot_low``,
    ``boot_high``: the pigeonhole bootstrap's interval.
    ``replicates`` of ``declared`` were used, with ``filled`` runs of them missing (`incomplete`), and ``images`` of
    ``patients`` patients; ``undefined``: images left out because an arm has no score for them.
    ``median``: of the replicates' contrasts, which one run that collapsed does not move.
    ``share_of_replicates``: the part of the variance that more replicates shrink.
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
    filled: int = 0
    sources: tuple[Source, ...] = ()
    residual: float = math.nan
    median: float = math.nan
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


def effect(
    cells: Cells, contrast: Contrast, target: str | None, rng: np.random.Generator, level: float = 0.95
) -> Effect:
    """``contrast`` on ``target``, or on all targets (None).

    What enters is decided by `harness.stats.complete_cases`. Fewer than three replicates, a target of one patient or
    without a common image: no interval, and ``why`` says so. Raises ``ValueError`` for a target that is not there.
    """
    used = entering(cells, contrast.vector(cells.arms), target)
    known: dict[str, Any] = {
        "median": float(np.median(used.means())),
        "contrast": contrast.name, "target": target, "replicates": len(used.pairs), "declared": len(cells.replicates),
        "images": used.images, "patients": sum(value.shape[1] for value in used.values), "undefined": used.undefined,
        "level": level, "pairs": used.pairs, "filled": used.gaps.runs if used.gaps else 0,
    }  # fmt: skip
    if used.why:
        blank: dict[str, Any] = dict.fromkeys(
            ("low", "high", "se", "df", "p", "flip_p", "flip_floor", "boot_low", "boot_high", "share_of_replicates"),
            math.nan,
        )
        return Effect(estimate=used.estimate(), why=used.why, **known, **blank)
    parts = used.parts()
    total, margin = float(parts.total()), float(parts.margin(level))
    flips = sign_flip(used.means(), used.pairs, rng)
    low, high = pigeonhole(used.values, used.pairs, rng, level, shares=used.shares)
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
