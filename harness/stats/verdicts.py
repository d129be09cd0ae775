"""Verdicts on effects, from matters to does not matter, or undecided with what would decide it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from harness.stats.complete_cases import FEWEST
from harness.stats.crossed_variance import clusters
from harness.stats.effects import Effect, effect
from harness.stats.power import (
    GOAL,
    MOST,
    ContrastNoise,
    Grown,
    decided_by,
    detectable,
    exaggeration,
    more_needed,
)
from harness.stats.scores import FOLDS, Cells, Contrast, Floats, Pair, continued
from harness.text import listed

Direction = Literal["helps", "hurts"]


@dataclass(frozen=True)
class Matters:
    """The mean effect over the targets lies beyond the smallest of interest, in the ``direction`` of its sign."""

    direction: Direction


@dataclass(frozen=True)
class Differs:
    """The mean effect differs from 0 in a ``direction``, perhaps too little to matter. ``more``, ``why``, ``chance``:
    as `Undecided` has them, of the verdict whether it matters."""

    direction: Direction
    more: int | None
    why: str
    chance: float = math.nan


@dataclass(frozen=True)
class Opposed:
    """The effect is above 0 on the targets ``helps`` and below it on the targets ``hurts``: a mean hides that."""

    helps: tuple[str, ...]
    hurts: tuple[str, ...]


@dataclass(frozen=True)
class SmallOnAverage:
    """The mean effect is smaller than the smallest of interest; on the targets ``elsewhere`` that was not shown."""

    elsewhere: tuple[str, ...]


@dataclass(frozen=True)
class DoesNotMatter:
    """The effect is smaller than the smallest of interest on every target, whether or not it is 0."""


@dataclass(frozen=True)
class Undecided:
    """Nothing was shown. ``more``: further replicates after which it is expected (power 80 %) to be shown that the mean
    effect differs from 0, or that it is too small, if effect and variance are what they seem now; None where no number
    would do or nothing can be said; ``why`` says which. ``chance``: the best one that a planned look has, NaN where
    none is planned or nothing can be said."""

    more: int | None
    why: str
    chance: float = math.nan


Verdict = Matters | Differs | Opposed | SmallOnAverage | DoesNotMatter | Undecided


def phrase(verdict: Verdict) -> str:
    """A verdict in a few words."""
    match verdict:
        case Matters(direction):
            return f"matters: {direction}"
        case Differs(direction):
            return f"{direction}, perhaps too little to matter"
        case Opposed(helps, hurts):
            return f"helps on {listed(helps)}, hurts on {listed(hurts)}"
        case SmallOnAverage():
            return "does not matter on average"
        case DoesNotMatter():
            return "does not matter"
        case Undecided():
            return "undecided"


@dataclass(frozen=True)
class PerTest:
    """A number for each test of a family of m contrasts on T targets: (..., m), or (..., m, T) by target.

    As p-values, they are of the hypotheses that a test rejects. ``differs``: the mean effect is 0; ``beyond``: it is at
    most the smallest of interest, in size; ``small``: it is at least that; ``everywhere``: on some target it is at
    least that; ``differs_on``, ``small_on``: the same of one target. NaN where there is no interval.
    """

    differs: Floats
    beyond: Floats
    small: Floats
    everywhere: Floats
    differs_on: Floats
    small_on: Floats

    @classmethod
    def stacked(cls, several: Sequence[PerTest]) -> PerTest:
        """``several`` along a new first axis."""
        return cls(*(np.stack([getattr(one, name) for one in several]) for name in cls.__dataclass_fields__))

    def each(self, change: Callable[[Floats], Floats]) -> PerTest:
        """``change`` of each test's own family, from (..., k) to (..., k)."""

        def by_target(values: Floats) -> Floats:
            made = change(values.reshape(*values.shape[:-2], -1))
            return made.reshape(*made.shape[:-1], *values.shape[-2:])

        return PerTest(
            change(self.differs),
            change(self.beyond),
            change(self.small),
            change(self.everywhere),
            by_target(self.differs_on),
            by_target(self.small_on),
        )


@dataclass(frozen=True)
class Judged:
    """A contrast with its verdict; ``effect`` is its mean over all targets, ``targets`` its effect on each.

    p-values, of the hypothesis that the effect is: 0 (``differs_p``); at most the smallest of interest (``beyond_p``);
    at least that (``equivalence_p``); at least that on some target (``everywhere_p``). All are adjusted for the family
    and for the looks, to be compared with the study's alpha; NaN where the effect has no interval. ``detectable``: the
    true effect that such studies distinguish from 0 in four of five (`power.detectable`), if the family's other open
    contrasts stay open; NaN without an interval. ``inflation``: the factor by which studies with this verdict overstate
    such an effect on average (`power.exaggeration`); NaN where the verdict claims no effect.
    """

    effect: Effect
    targets: tuple[Effect, ...]
    differs_p: float
    beyond_p: float
    equivalence_p: float
    everywhere_p: float
    verdict: Verdict
    detectable: float
    inflation: float = math.nan


Estimated = tuple[Effect, tuple[Effect, ...]]
"""A contrast's mean effect over the targets, and its effect on each."""


def estimated(cells: Cells, contrast: Contrast, rng: np.random.Generator) -> Estimated:
    """``contrast`` on all targets together, and on each."""
    return effect(cells, contrast, None, rng), tuple(
        effect(cells, contrast, target.name, rng) for target in cells.targets
    )


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


def tests(estimates: Sequence[Estimated], smallest: float) -> PerTest:
    """The p-values of the effects, before any adjustment."""
    means, on = [mean for mean, _ in estimates], [targets for _, targets in estimates]
    small_on = np.array([[_small(one, smallest) for one in targets] for targets in on])
    return PerTest(
        differs=np.array([one.p for one in means]),
        beyond=np.array([_beyond(one, smallest) for one in means]),
        small=np.array([_small(one, smallest) for one in means]),
        everywhere=small_on.max(axis=-1),
        differs_on=np.array([[one.p for one in targets] for targets in on]),
        small_on=small_on,
    )


def _beyond(one: Effect, smallest: float) -> float:
    return math.nan if one.why else float(one.parts().beyond_p(smallest))


def _small(one: Effect, smallest: float) -> float:
    return math.nan if one.why else float(one.parts().equivalence_p(smallest))


def kinds(p: PerTest, seen: PerTest, alpha: float = 0.05) -> npt.NDArray[np.str_]:
    """(..., m): the kind of each verdict, by the adjusted ``p`` and the estimates ``seen``.

    It is the first of these that holds. Each test is Holm-adjusted within its own family, so that each kind is said
    wrongly of any contrast in at most a share ``alpha`` of studies; a contrast that could not be tested counts in it.

    - *everywhere*, it does not matter: on every target the effect is smaller than the smallest of interest (two
      one-sided tests, the largest p of all targets: an intersection-union test);
    - *opposed*: it differs from 0 in one direction on some targets and in the other on others (contrasts x targets);
    - *beyond*, it matters: the mean effect is larger than the smallest, the two-sided p of |estimate| - smallest;
    - *small*, it does not matter on average: the mean effect is smaller than the smallest of interest;
    - *differs*: the mean effect differs from 0, and whether it matters is open;
    - *undecided*.
    """
    differs_on = p.differs_on <= alpha
    helps, hurts = ((differs_on & (sign * seen.differs_on > 0.0)).any(axis=-1) for sign in (1.0, -1.0))
    shown = {
        "everywhere": p.everywhere <= alpha,
        "opposed": helps & hurts,
        "beyond": p.beyond <= alpha,
        "small": p.small <= alpha,
        "differs": p.differs <= alpha,
    }
    return np.select(list(shown.values()), list(shown), "undecided")


def settle(
    estimates: Sequence[Estimated],
    p: PerTest,
    seen: PerTest,
    smallest: float,
    alpha: float,
    replicates: Sequence[Pair],
    error: Callable[[int], float],
    ahead: Sequence[int] = (),
) -> tuple[Judged, ...]:
    """Verdicts from adjusted p-values, and from the estimates ``seen`` when each test was decided.

    ``replicates``: those of the study, which further ones continue (`scores.continued`). ``error``: what a look may
    err, by the number of replicates it is at, 0 where there is none. ``ahead``: the looks that are planned.
    """
    begun = len(replicates)
    to_come = tuple(count - begun for count in ahead)

    def level(more: int, tests: int) -> float:
        return error(begun + more) / tests

    def still(values: Floats) -> int:
        """The tests of a family that are open, by their adjusted p; one or more."""
        return max(1, len(estimates) - int((values <= alpha).sum()))

    def forecast(one: Effect, values: Floats, beyond: float) -> tuple[int | None, str, float]:
        """What would decide ``one`` if the other open tests of its family stay open."""
        return _forecast(one, smallest, beyond, replicates, lambda more: level(more, still(values)), to_come)

    def on(k: int, chosen: npt.NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(one.target or "" for one, has in zip(estimates[k][1], chosen.tolist(), strict=True) if has)

    def verdict(k: int) -> Verdict:
        mean, differs_on = estimates[k][0], p.differs_on[k] <= alpha
        match kind_of[k]:
            case "everywhere":
                return DoesNotMatter()
            case "opposed":
                return Opposed(
                    on(k, differs_on & (seen.differs_on[k] > 0.0)), on(k, differs_on & (seen.differs_on[k] < 0.0))
                )
            case "beyond":
                return Matters(_direction(seen.beyond[k]))
            case "small":
                return SmallOnAverage(on(k, ~(p.small_on[k] <= alpha)))
            case "differs":
                return Differs(_direction(seen.differs[k]), *forecast(mean, p.beyond, smallest))
            case _:
                return Undecided(*forecast(mean, p.differs, 0.0))

    def inflation(one: Effect, verdict: Verdict) -> float:
        beyond = {Matters: smallest, Differs: 0.0}.get(type(verdict))
        if beyond is None or one.why or not (at := level(0, len(estimates))):
            return math.nan
        return exaggeration(one.estimate, ContrastNoise.of(one.parts(), one.pairs), one.pairs, at, beyond)

    def detectable_effect(one: Effect) -> float:
        if one.why:
            return math.nan
        noise = ContrastNoise.of(one.parts(), one.pairs)
        return detectable(noise, one.pairs, level(0, still(p.differs)))

    kind_of = kinds(p, seen, alpha).tolist()
    verdicts = [verdict(k) for k in range(len(estimates))]
    return tuple(
        Judged(
            mean,
            targets,
            differs_p=float(p.differs[k]),
            beyond_p=float(p.beyond[k]),
            equivalence_p=float(p.small[k]),
            everywhere_p=float(p.everywhere[k]),
            verdict=verdicts[k],
            detectable=detectable_effect(mean),
            inflation=inflation(mean, verdicts[k]),
        )
        for k, (mean, targets) in enumerate(estimates)
    )


def _direction(estimate: float) -> Direction:
    return "helps" if estimate > 0.0 else "hurts"


def _forecast(
    one: Effect,
    smallest: float,
    beyond: float,
    replicates: Sequence[Pair],
    level: Callable[[int], float],
    ahead: Sequence[int],
) -> tuple[int | None, str, float]:
    """How many further replicates would show an effect larger than ``beyond``, or one smaller than ``smallest``; why,
    and the best chance of the looks planned.

    ``level``: by further replicates, of the test that would decide, with the family's other open contrasts open.
    ``ahead``: the numbers of further replicates at which looks are planned.
    """
    if one.why:
        return FEWEST - one.replicates if one.replicates < FEWEST else None, one.why, math.nan
    noise, begun = ContrastNoise.of(one.parts(), one.pairs), one.replicates
    that = "whether it matters" if beyond else "it"

    def taken(more: int) -> tuple[Pair, ...]:
        return (*one.pairs, *continued(replicates, more))

    def unshared(more: int) -> tuple[Pair, ...]:
        return tuple(Pair(k, k) for k in range(begun + more))

    def needed(noise: ContrastNoise, grown: Grown) -> int | None:
        return more_needed(one.estimate, noise, grown, level, smallest, beyond)

    chance = max(
        (decided_by(one.estimate, noise, taken(more), level(more), smallest, beyond) for more in ahead),
        default=math.nan,
    )
    more = needed(noise, taken)
    if more is not None:
        unknown = "folds" in clusters(taken(more)) and "folds" not in clusters(one.pairs)
        also = f" and does not vary from fold to fold, which {begun} replicates on as many folds cannot tell"
        return (
            more,
            f"{more} more replicate{'s' * (more > 1)} would decide {that} with a chance of {100 * GOAL:.0f} %, if this "
            f"is the effect"
            f"{also * unknown}",
            chance,
        )
    independent = noise.unshared()
    if needed(replace(independent, images=0.0), unshared) is None:
        why = f"{MOST} replicates would not decide {that}: the effect seems to lie too near what is too small"
    elif needed(independent, unshared) is None:
        why = f"no number of replicates would decide {that}: the images are too few"
    else:
        why = _too_few_folds(len({pair.fold for pair in taken(FOLDS)}), that)
    return None, why, chance


def _too_few_folds(folds: int, that: str) -> str:
    remedy = f"declare it on {FOLDS} folds, or" if folds < FOLDS else "there are no more; declare it"
    return (
        f"no number of replicates would decide {that}: they share {folds} folds, and on how the effect varies from "
        f"fold to fold further replicates say nothing new; {remedy} on one fold, grid(seeds=20, folds=1), of which "
        "alone the verdict then speaks"
    )
