"""Verdicts: matters, does not matter, or undecided with what would decide it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from harness.inference.cells import FOLDS, Cells, Contrast, Floats, Pair, continued
from harness.inference.crossed import clusters
from harness.inference.effects import Effect, effect
from harness.inference.entering import FEWEST
from harness.inference.multiplicity import holm
from harness.inference.power import GOAL, MOST, ContrastNoise, Grown, decided_by, minimum_detectable, more_needed


@dataclass(frozen=True)
class Matters:
    """The effect differs from 0, in the ``direction`` of its sign."""

    direction: Literal["helps", "hurts"]


@dataclass(frozen=True)
class DoesNotMatter:
    """The effect is smaller than the smallest of interest, whether or not it is 0."""


@dataclass(frozen=True)
class Undecided:
    """Neither was shown. ``more``: further replicates after which one of the two is expected (power 80 %) if effect and
    variance are what they seem now; None where no number would do or nothing can be said; ``why`` says which.
    ``chance``: the best one that a planned look has, NaN where none is planned or nothing can be said."""

    more: int | None
    why: str
    chance: float = math.nan


Verdict = Matters | DoesNotMatter | Undecided


@dataclass(frozen=True)
class Judged:
    """A contrast over all targets with its verdict.

    ``holm_p``: of no effect; ``equivalence_p``: of an effect of at least the smallest of interest. Both are adjusted
    for the family (and, in a study that was looked at before, for the looks), to be compared with the study's alpha;
    NaN where the effect has no interval. ``detectable``: the smallest true effect that a study of these replicates
    finds with a power of 80 %, if its variances are what they seem and the family's other open contrasts stay open; NaN
    without an interval.
    """

    effect: Effect
    holm_p: float
    equivalence_p: float
    verdict: Verdict
    detectable: float


def judge(
    cells: Cells, contrasts: Sequence[Contrast], smallest: float, rng: np.random.Generator, alpha: float = 0.05
) -> tuple[Judged, ...]:
    """A verdict for each of ``contrasts``, which are one family.

    *Matters* if the Holm-adjusted two-sided p is at most ``alpha``: in at most that share of studies any contrast
    without effect is called so. *Does not matter* if the Holm-adjusted p of two one-sided tests against +-``smallest``
    is: in at most that share any contrast of at least ``smallest`` is called so. Where both hold, the effect was shown
    to be there and to be of no interest: *does not matter*. A contrast that could not be tested counts in the family.
    Raises ``ValueError`` unless ``smallest`` is positive and the contrasts' names differ.
    """
    check(contrasts, smallest)
    found = [effect(cells, contrast, None, rng) for contrast in contrasts]
    differs, same = tests(found, smallest)
    return settle(found, holm(differs), holm(same), smallest, alpha, cells.replicates)


def matters(estimate: float) -> Matters:
    """The verdict on an effect that differs from 0 and is estimated so."""
    return Matters("helps" if estimate > 0.0 else "hurts")


def check(contrasts: Sequence[Contrast], smallest: float) -> None:
    """Raises ``ValueError`` unless the family can be judged."""
    if not (math.isfinite(smallest) and smallest > 0.0):
        raise ValueError(
            f"The smallest effect of interest must be positive, but is {smallest}: say what is too little."
        )
    names = [contrast.name for contrast in contrasts]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"The contrasts of a family must have names that differ, but they are {names}: name each once."
        )


def tests(found: Sequence[Effect], smallest: float) -> tuple[Floats, Floats]:
    """(m,), (m,): the effects' own p against 0 and against +-``smallest``; NaN where there is no interval."""
    differs = [one.p for one in found]
    same = [math.nan if one.why else float(one.parts().equivalence_p(smallest)) for one in found]
    return np.array(differs), np.array(same)


def settle(
    found: Sequence[Effect],
    differs: Floats,
    same: Floats,
    smallest: float,
    alpha: float,
    replicates: Sequence[Pair],
    looks: Mapping[int, float] | None = None,
) -> tuple[Judged, ...]:
    """Verdicts from adjusted p-values (m,), (m,).

    ``replicates``: those of the study, whose sequence further ones go on with (``cells.continued``). ``looks``: the
    error that every look may make, by its number of replicates, rising; None for ``alpha`` at any number.
    """
    still = max(1, len(found) - int((differs <= alpha).sum()))

    def level(more: int) -> float:
        if looks is None:
            return alpha / still
        count, most = len(replicates) + more, max(looks)
        return looks[most if count > most else count] / still if count in looks or count > most else 0.0

    ahead = tuple(count - len(replicates) for count in looks or () if count > len(replicates))

    return tuple(
        Judged(
            one,
            float(p),
            float(q),
            _verdict(one, float(p), float(q), smallest, alpha, replicates, level, ahead),
            _detectable(one, level(0)),
        )
        for one, p, q in zip(found, differs, same, strict=True)
    )


def _detectable(one: Effect, level: float) -> float:
    if one.why:
        return math.nan
    return minimum_detectable(ContrastNoise.of(one.parts(), one.pairs), one.pairs, level)


def _verdict(
    one: Effect,
    differs: float,
    same: float,
    smallest: float,
    alpha: float,
    replicates: Sequence[Pair],
    level: Callable[[int], float],
    ahead: Sequence[int],
) -> Verdict:
    if same <= alpha:
        return DoesNotMatter()
    if differs <= alpha:
        return matters(one.estimate)
    return _undecided(one, smallest, replicates, level, ahead)


def _undecided(
    one: Effect, smallest: float, replicates: Sequence[Pair], level: Callable[[int], float], ahead: Sequence[int]
) -> Undecided:
    """``level``: by further replicates, of the test that would decide, with the family's other open contrasts open.

    ``ahead``: the numbers of further replicates at which looks are planned.
    """
    if one.why:
        return Undecided(FEWEST - one.replicates if one.replicates < FEWEST else None, one.why)
    noise, begun = ContrastNoise.of(one.parts(), one.pairs), one.replicates

    def taken(more: int) -> tuple[Pair, ...]:
        return (*one.pairs, *continued(replicates, more))

    def unshared(more: int) -> tuple[Pair, ...]:
        return tuple(Pair(k, k) for k in range(begun + more))

    def needed(noise: ContrastNoise, grown: Grown) -> int | None:
        return more_needed(one.estimate, noise, grown, level, smallest)

    chance = max(
        (decided_by(one.estimate, noise, taken(more), level(more), smallest) for more in ahead), default=math.nan
    )
    more = needed(noise, taken)
    if more is not None:
        unknown = "folds" in clusters(taken(more)) and "folds" not in clusters(one.pairs)
        also = f" and does not vary from fold to fold, which {begun} replicates on as many folds cannot tell"
        return Undecided(
            more,
            f"{more} more replicate{'s' * (more > 1)} would decide it with a chance of {100 * GOAL:.0f} %, if this is "
            f"the effect"
            f"{also * unknown}",
            chance,
        )
    alone = noise.unshared()
    if needed(replace(alone, images=0.0), unshared) is None:
        why = f"{MOST} replicates would not decide it: the effect seems to lie too near what is too small"
    elif needed(alone, unshared) is None:
        why = "no number of replicates would decide it: the images are too few"
    else:
        why = _too_few_folds(len({pair.fold for pair in taken(FOLDS)}))
    return Undecided(None, why, chance)


def _too_few_folds(folds: int) -> str:
    remedy = f"declare it on {FOLDS} folds, or" if folds < FOLDS else "there are no more; declare it"
    return (
        f"no number of replicates would decide it: they share {folds} folds, and on how the effect varies from fold to "
        f"fold further replicates say nothing new; {remedy} on one fold, grid(seeds=20, folds=1), of which alone the "
        "verdict then speaks"
    )
