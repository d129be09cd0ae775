"""Ranks of arms by their means over all targets, with simultaneous confidence intervals.

What is shown is which of two arms scores higher: by the paired differences of all pairs, over replicates and patients,
adjusted by Holm together. An arm may have every rank that these leave open (Mogstad, Romano, Shaikh & Wilhelm 2024,
*Inference for ranks*). All of them hold together with the chance that Holm guarantees, and an arm is the best where no
rank but the first is open.

Ranks are not compared over data sets (Friedman, Wilcoxon, Bayesian signed ranks; Demsar 2006, Benavoli et al. 2017):
those tests take data sets for independent, and here all of them tested the same trained models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from harness.stats.complete_cases import complete_cases
from harness.stats.multiplicity import adjust
from harness.stats.refusal import Refused
from harness.stats.scores import Cells, Floats

Shown = npt.NDArray[np.bool_]

MOST = 40
"""Arms that are ranked at once: every two of them are compared, which takes seconds for so many."""


@dataclass(frozen=True)
class Rank:
    """``arm`` has rank ``place`` of ``arms``, 1 is the highest, equals share theirs; it may have ``best`` to ``worst``.

    ``place``: one more than the arms that score higher on the replicates and images of the pair. ``replicates`` of
    ``declared``: the fewest that the arm was compared over.
    """

    arm: str
    place: float
    best: int
    worst: int
    arms: int
    replicates: int
    declared: int


def ranks(cells: Cells, alpha: float = 0.05) -> tuple[Rank, ...] | Refused:
    """Every arm with a score, by ``place``; all intervals hold together with a chance of 1 - ``alpha``.

    A pair whose difference has no interval leaves the order of the two open. Refused with fewer than two arms that have
    scores, more than `MOST`, or where no pair has an interval.
    """
    rule = "Ranks compare every two arms that have scores"
    arms = [a for a in range(len(cells.arms)) if _scored(cells, a)]
    if len(arms) < 2:
        return Refused(rule, f"there are {len(arms)}", "let more trials finish")
    if len(arms) > MOST:
        return Refused(f"{rule}, {MOST} at most", f"there are {len(arms)}", "read the means and the contrasts")
    count = len(arms)
    difference, p, common = np.zeros((count, count)), [], np.full((count, count), len(cells.replicates))
    why = ""
    for i, j in combinations(range(count), 2):
        weights = np.zeros(len(cells.arms))
        weights[arms[i]], weights[arms[j]] = 1.0, -1.0
        used = complete_cases(cells, weights, None)
        difference[i, j] = used.estimate()
        difference[j, i] = -difference[i, j]
        common[i, j] = common[j, i] = len(used.pairs)
        p.append(math.nan if used.why else float(used.parts().p()))
        why = used.why or why
    if np.isnan(p).all():
        return Refused("Ranks need an interval of some difference", why, "add replicates or patients")
    shown = _square(adjust(np.array(p)) <= alpha, count)
    made = [
        Rank(
            arm=cells.arms[arms[i]],
            place=_place(np.delete(difference[i], i)),
            best=1 + int((shown[i] & (difference[i] < 0)).sum()),
            worst=count - int((shown[i] & (difference[i] > 0)).sum()),
            arms=count,
            replicates=int(common[i].min()),
            declared=len(cells.replicates),
        )
        for i in range(count)
    ]
    return tuple(sorted(made, key=lambda rank: rank.place))


def _place(differences: Floats) -> float:
    """The rank among arms that an arm scores higher (above 0) or lower than; a difference of 0 or unknown is a tie."""
    lower, higher = int((differences < 0).sum()), int((differences > 0).sum())
    return 1.0 + lower + 0.5 * (len(differences) - lower - higher)


def _scored(cells: Cells, arm: int) -> bool:
    return math.isfinite(complete_cases(cells, np.eye(len(cells.arms))[arm], None).estimate())


def _square(shown: Shown, count: int) -> Shown:
    """(arms, arms): whether the two are shown to differ, of one answer for each pair."""
    square = np.zeros((count, count), dtype=np.bool_)
    square[np.triu_indices(count, 1)] = shown
    return square | square.T
