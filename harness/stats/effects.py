"""Effects: contrasts of arms, estimated on each target and on all together, with intervals and p-values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.stats.bootstrap import pigeonhole
from harness.stats.complete_cases import complete_cases
from harness.stats.crossed_variance import Parts
from harness.stats.permutation import floor, sign_flip
from harness.stats.refusal import Refused
from harness.stats.scores import Cells, Contrast, Pair


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A contrast on ``target``, or on all targets with equal weight where that is None. In units of the metric.

    ``estimate``: mean over the replicates (over those of each fold, then over folds, where folds are shared) of the
    mean over images (of the mean over targets). ``low``, ``high``: interval of coverage ``level``; ``se``, ``df``:
    standard error, and degrees of freedom of its replicates' part; ``p``: two-sided, against 0, of this contrast alone.
    ``flip_p``, ``flip_floor``: sign flips over replicates, and the smallest p that they can give; NaN where they are
    refused. ``boot_low``, ``boot_high``: interval of the pigeonhole bootstrap. ``replicates`` of ``declared`` were
    used, with ``filled`` runs imputed, and ``images`` of ``patients`` patients; ``undefined``: images left out because
    an arm has no score for them. ``median``: of the replicates' contrasts, which a single collapsed run does not move.
    ``share_of_replicates``: the part of the variance that more replicates shrink. ``variance``: the estimate with the
    parts of its variance, ``residual`` as there. ``pairs``: the replicates used. ``why``: why there is no interval,
    empty where there is one; without it all but ``estimate`` and the counts is NaN, and ``estimate`` too if there is
    nothing to average.
    """

    contrast: str
    target: str | None
    estimate: float
    low: float = math.nan
    high: float = math.nan
    se: float = math.nan
    df: float = math.nan
    p: float = math.nan
    flip_p: float = math.nan
    flip_floor: float = math.nan
    boot_low: float = math.nan
    boot_high: float = math.nan
    replicates: int
    declared: int
    images: int
    patients: int
    undefined: int
    share_of_replicates: float = math.nan
    level: float = 0.95
    filled: int = 0
    residual: float = math.nan
    median: float = math.nan
    pairs: tuple[Pair, ...] = ()
    why: str = ""
    variance: Parts | None = field(default=None, compare=False)

    def parts(self) -> Parts:
        """``variance``. Raises ``ValueError`` without an interval."""
        if self.variance is None:
            raise ValueError(f"{self.contrast} must have an interval to be tested, but has none: {self.why}")
        return self.variance

    def row(self) -> dict[str, Any]:
        """The effect as a row of a table: all that is a number or a word."""
        return {name: value for name, value in vars(self).items() if name not in ("pairs", "variance")}


def effect(
    cells: Cells, contrast: Contrast, target: str | None, rng: np.random.Generator, level: float = 0.95
) -> Effect:
    """``contrast`` on ``target``, or on all targets (None).

    What enters is decided by `harness.stats.complete_cases`. Fewer than three replicates, a target of one patient or
    without a common image: no interval, and ``why`` says so. Raises ``ValueError`` for a target that is not there.
    """
    used = complete_cases(cells, contrast.vector(cells.arms), target)
    known: dict[str, Any] = {
        "median": float(np.median(used.means())),
        "contrast": contrast.name, "target": target, "replicates": len(used.pairs), "declared": len(cells.replicates),
        "images": used.images, "patients": sum(value.shape[1] for value in used.values), "undefined": used.undefined,
        "level": level, "pairs": used.pairs, "filled": used.gaps.runs if used.gaps else 0,
    }  # fmt: skip
    if used.why:
        return Effect(estimate=used.estimate(), why=used.why, **known)
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
        residual=float(parts.residual),
        variance=parts,
        **known,
    )
