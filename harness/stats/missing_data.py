"""Missing data: do failures depend on the arm? If so, a comparison of the other trials favours arms that fail.

The replicates are blocks: a hard seed or fold makes every arm fail, which says nothing about arms. So the question is
asked within replicates: given how many arms failed in each, are the failures spread over the arms as if arms were
exchangeable? The statistic is Cochran's Q (Cochran 1950), the arms' failure counts around their mean, and its
distribution is that of all arrangements within replicates: the Freeman-Halton test (1951) stratified by replicate. It
is exact where the arrangements can be enumerated, and Monte Carlo with (b + 1) / (B + 1) where they cannot.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from harness.stats.scores import Cells, Floats, Pair

ENUMERATED = 2**14
DRAWN = 9_999
# Cells of failure flags that are held at once while arrangements are drawn.
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class ArmFailures:
    """An arm's trials: ``declared``, ``failed`` (no completed result), and ``undefined`` image scores in the others."""

    arm: str
    declared: int
    failed: int
    undefined: int


@dataclass(frozen=True)
class Missing:
    """Failures by arm and the p-value that arms do not matter for them.

    ``p``: NaN where no trial failed, or all did in every replicate where one did, which cannot distinguish arms.
    ``exact``: all ``arrangements`` were enumerated; else that many were drawn. ``floor``: the smallest p that the
    failures could have given, the share of the arrangements that are as uneven as any can be; a ``floor`` above 0.05
    means that the test could not have rejected. It is NaN for drawn arrangements.
    """

    arms: tuple[ArmFailures, ...]
    p: float
    exact: bool
    arrangements: int
    floor: float


@dataclass(frozen=True)
class Collapsed:
    """A run that scored ``below`` what its arm and its replicate let expect, in units of the metric."""

    arm: str
    replicate: Pair
    below: float


OUTLYING = 8.0
"""Robust standard deviations below what is expected from which on a run is named."""


def collapsed(cells: Cells, smallest: float) -> tuple[Collapsed, ...]:
    """The runs that lie far below the others: by more than ``smallest`` and `OUTLYING` times what runs usually do.

    A run's score is its mean over targets; what is expected is the arm's median and the median by which the replicate's
    runs lie off theirs. The usual spread is the median absolute deviation of all runs, in standard deviations of a
    normal. Runs are named, not left out: no verdict depends on this.
    """
    scores = np.where(cells.finished[:, :, None], cells.means(), np.nan).mean(axis=2)
    if not np.isfinite(scores).any():
        return ()
    off = scores - _medians(scores)[:, None]
    off = off - _medians(off.T)
    usual = 1.4826 * float(np.nanmedian(np.abs(off)))
    return tuple(
        Collapsed(cells.arms[a], cells.replicates[r], -float(off[a, r]))
        for a, r in np.argwhere(-off > max(smallest, OUTLYING * usual)).tolist()
    )


def _medians(values: Floats) -> Floats:
    """(rows,): of each row's finite values, NaN where it has none."""
    finite = (row[np.isfinite(row)] for row in values)
    return np.array([np.median(row) if len(row) else math.nan for row in finite])


def upper_rate(bad: int, runs: int, level: float = 0.95) -> float:
    """The rate of failing or collapsing runs that ``bad`` of ``runs`` leave open (Clopper & Pearson 1934, one-sided).

    1 - 0.05^(1 / n), about 3 / n, for n clean runs; 1 where all were bad, or none was made.
    """
    return 1.0 if bad >= runs else float(betaincinv(bad + 1.0, runs - bad, level))


def missing(cells: Cells, rng: np.random.Generator, asked: npt.NDArray[np.bool_] | None = None) -> Missing:
    """Counts of failures by arm and the test that they do not depend on it. See `Missing`.

    ``asked``: (arms, replicates), which trials were wanted at all; None for all of them. The test is over the
    replicates that were asked of every arm.
    """
    asked = np.ones_like(cells.finished) if asked is None else asked
    failed = asked & ~cells.finished
    undefined = sum(
        (np.isnan(target.scores) & cells.finished[:, :, None]).sum(axis=(1, 2)) for target in cells.targets
    ) + np.zeros(len(cells.arms), dtype=np.int64)
    counted = tuple(
        ArmFailures(arm, int(asked[a].sum()), int(failed[a].sum()), int(undefined[a]))
        for a, arm in enumerate(cells.arms)
    )
    blocks = failed[:, asked.all(axis=0) & (failed.sum(axis=0) > 0) & (failed.sum(axis=0) < len(cells.arms))]
    if blocks.size == 0:
        return Missing(counted, math.nan, True, 1, math.nan)
    count = math.prod(math.comb(len(cells.arms), int(k)) for k in blocks.sum(axis=0))
    if count <= ENUMERATED:
        spread = _enumerated(blocks)
        p, floor = float(np.mean(spread >= _spread(blocks))), float(np.mean(spread == spread.max()))
        return Missing(counted, p, True, count, floor)
    worse = sum(int((drawn >= _spread(blocks)).sum()) for drawn in _drawn(blocks, rng))
    return Missing(counted, (worse + 1) / (DRAWN + 1), False, DRAWN, math.nan)


def _spread(blocks: npt.NDArray[np.bool_]) -> int:
    """Cochran's Q less what all arrangements share: the sum of squares of the arms' counts, a whole number."""
    return int((blocks.sum(axis=1).astype(np.int64) ** 2).sum())


def _enumerated(blocks: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    counts = np.zeros((1, len(blocks)), dtype=np.int64)
    for failures in blocks.sum(axis=0):
        chosen = np.array(list(combinations(range(len(blocks)), int(failures))))
        added = np.zeros((len(chosen), len(blocks)), dtype=np.int64)
        np.put_along_axis(added, chosen, 1, axis=1)
        counts = (counts[:, None, :] + added[None, :, :]).reshape(-1, len(blocks))
    return np.asarray((counts**2).sum(axis=1), dtype=np.int64)


def _drawn(blocks: npt.NDArray[np.bool_], rng: np.random.Generator) -> list[npt.NDArray[np.int64]]:
    per = max(1, _AT_ONCE // blocks.size)
    sizes = [per] * (DRAWN // per) + [DRAWN % per] * (DRAWN % per > 0)
    found = []
    for size in sizes:
        shuffled = rng.permuted(np.broadcast_to(blocks, (size, *blocks.shape)), axis=1)
        found.append(np.asarray((shuffled.sum(axis=2) ** 2).sum(axis=1), dtype=np.int64))
    return found
