"""Group sequential analysis: looks at a study before it is finished, with a single error rate over all of them.

The error that may be made is spent over the looks by an O'Brien-Fleming-type function of the share of the replicates
that are there (Lan & DeMets 1983, Biometrika 70): next to nothing early, most of it late. Each look has what was
spent since the one before, and the looks are added up by Bonferroni's inequality. That needs no joint distribution of
the looks, which t statistics with few degrees of freedom do not have in closed form, and errs on the safe side. Holm's
method adjusts for the contrasts within a look. A contrast that was rejected at an earlier look leaves the family of the
later ones: until the first false rejection all true hypotheses are still in it (Maurer & Bretz 2013, Bonferroni case).

A plan of looks is fixed before its first one: ``schedule`` where replicates are added until all is decided, the one
look at the declared end of any other study. Since any study may be grown later, and growing is an unplanned
look, no plan spends all: each makes four fifths of the error that the looks before it have left (`Looks.planned`),
so 4 % at first, 0.8 % after a first growth. However often a study grows, the sum stays below 5 %.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from harness.stats.complete_cases import FEWEST
from harness.stats.multiplicity import adjust
from harness.stats.scores import Cells, Contrast, Floats
from harness.stats.verdicts import Estimated, Judged, PerTest, Undecided, check, estimated, settle, tests

ALPHA = 0.05
"""The error that all looks of a study may make together."""
KEPT = 0.2
"""The share of the error left that a plan of looks leaves to those after it."""
_NOTHING = 1e-12
"""What is left of an error, but for rounding, by looks that were planned to make all of it."""


def spent(fraction: float, alpha: float = 0.05) -> float:
    """The error spent once ``fraction`` of the replicates are there: 2 - 2 Phi(z(1 - alpha / 2) / sqrt(fraction)).

    0 for a fraction of 0, ``alpha`` for 1. Raises ``ValueError`` outside [0, 1].
    """
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(
            f"A share of the replicates must lie in [0, 1], but is {fraction}: divide by the most planned."
        )
    if fraction == 0.0:
        return 0.0
    return float(2.0 * ndtr(ndtri(alpha / 2.0) / math.sqrt(fraction)))


def schedule(first: int, most: int) -> tuple[int, ...]:
    """Numbers of replicates at which a study is looked at: from ``first``, half as many again each time, to ``most``.

    Few looks cost little: each takes its share of the error from the last. Raises ``ValueError`` unless
    3 <= first <= most.
    """
    if not FEWEST <= first <= most:
        raise ValueError(f"Looks must run from {FEWEST} or more to the most planned, but got {first} to {most}.")
    looks = [first]
    while looks[-1] < most:
        looks.append(min(most, math.ceil(1.5 * looks[-1])))
    return tuple(looks)


def levels(looks: Sequence[int], most: int, alpha: float = 0.05) -> tuple[float, ...]:
    """The error that each of ``looks``, numbers of replicates, may make; they sum to ``alpha`` at ``most``.

    Raises ``ValueError`` unless ``looks`` rise and end at ``most`` or before.
    """
    if not looks or list(looks) != sorted(set(looks)) or looks[0] < 1 or looks[-1] > most:
        raise ValueError(f"Looks must be rising numbers of replicates up to {most}, but are {tuple(looks)}.")
    reached = [0.0, *(spent(look / most, alpha) for look in looks)]
    return tuple(late - early for early, late in itertools.pairwise(reached))


@dataclass(frozen=True)
class Looks:
    """The looks of a study: ``at``, rising numbers of replicates, and the error of each; ``done`` of them are over.

    Those to come are the rest of one plan. They are kept as they were planned, whatever this version would plan.
    """

    at: tuple[int, ...] = ()
    errors: tuple[float, ...] = ()
    done: int = 0

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> Looks:
        """As ``json`` wrote them, with the looks ``done``. A record without errors is of a plan that spent all."""
        at = tuple(int(look) for look in recorded.get("schedule", ()))
        errors = recorded.get("errors") or (levels(at, at[-1]) if at else ())
        return cls(at, tuple(float(error) for error in errors), len(recorded.get("done", ())))

    def json(self) -> dict[str, Any]:
        """What a record holds, but for what was seen."""
        return {"schedule": list(self.at), "errors": list(self.errors)}

    @property
    def past(self) -> tuple[int, ...]:
        """The looks that are over."""
        return self.at[: self.done]

    @property
    def ahead(self) -> tuple[int, ...]:
        """The looks to come."""
        return self.at[self.done :]

    def planned(self, at: Sequence[int], alpha: float = ALPHA) -> Looks:
        """With a plan of looks ``at`` in place of those to come, if it reaches farther; else the looks as they are.

        The plan spends all but `KEPT` of what the looks that are over have left of ``alpha``. Raises ``ValueError``
        where they have left nothing.
        """
        last = max(self.past, default=0)
        ahead = tuple(look for look in at if look > last)
        if not ahead or ahead[-1] <= max(self.at, default=0):
            return self
        left = alpha - sum(self.errors[: self.done])
        if left < _NOTHING:
            raise ValueError(
                f"A further look must have error left to make, but the looks at {', '.join(map(str, self.past))} "
                f"replicates were planned to make all {100 * alpha:g} % of it: these verdicts stand. Ask the question "
                f"anew, with seeds of its own."
            )
        return Looks(
            (*self.past, *ahead), (*self.errors[: self.done], *levels(ahead, ahead[-1], _plan(left))), self.done
        )

    def looked(self) -> Looks:
        """After the next look."""
        return replace(self, done=self.done + 1)

    def error(self, count: int, alpha: float = ALPHA) -> float:
        """What a look at ``count`` replicates may err: as planned, 0 before the plan's end, what growing has after."""
        return dict(zip(self.at, self.errors, strict=True)).get(count, self.growing(alpha) * (count > self.at[-1]))

    def growing(self, alpha: float = ALPHA) -> float:
        """What a look beyond all that are planned may err; 0 where they were planned to spend all."""
        left = alpha - sum(self.errors)
        return _plan(left) if left >= _NOTHING else 0.0


def _plan(left: float) -> float:
    return (1.0 - KEPT) * left


def over_looks(p: Floats, levels: Sequence[float], alpha: float = 0.05) -> Floats:
    """(..., m): p-values adjusted for family and looks, to be compared with ``alpha``.

    ``p``: (looks, ..., m), NaN for what could not be tested at a look. Holm's adjusted p of look k counts
    alpha / level_k times; the smallest over the looks is what a hypothesis has in the end.
    """
    best = np.full(p.shape[1:], math.nan)
    for each, level in zip(p, levels, strict=True):
        rejected = best <= alpha
        adjusted = np.minimum(adjust(np.where(rejected, 0.0, each)) * alpha / level, 1.0)
        best = np.where(rejected, best, np.fmin(best, adjusted))
    return best


LookRecord = Mapping[str, Mapping[str, Any]]
"""What a look saw, by contrast, as JSON holds it: ``mean``, with the p against 0, the p of at most the smallest effect
of interest and that of at least it, and the estimate; ``targets``, by name the p against 0, the p of at least the
smallest, and the estimate. None for NaN."""


def look_record(found: Sequence[Estimated], smallest: float) -> dict[str, dict[str, Any]]:
    """The record of a look with the effects ``found``, before any adjustment."""
    p = tests(found, smallest)

    def plain(*values: float) -> list[float | None]:
        return [None if math.isnan(value) else float(value) for value in values]

    return {
        mean.contrast: {
            "mean": plain(p.differs[k], p.beyond[k], p.small[k], mean.estimate),
            "targets": {
                str(one.target): plain(p.differs_on[k, t], p.small_on[k, t], one.estimate)
                for t, one in enumerate(targets)
            },
        }
        for k, (mean, targets) in enumerate(found)
    }


def _recalled(then: LookRecord, contrasts: Sequence[Contrast], targets: Sequence[str]) -> tuple[PerTest, PerTest]:
    """The p-values and the estimates of a look; NaN for what it did not see."""

    def row(values: Sequence[float | None]) -> list[float]:
        return [math.nan if value is None else value for value in values]

    own = [then.get(contrast.name, {}) for contrast in contrasts]
    mean = np.array([row(one.get("mean", [None] * 4)) for one in own], dtype=np.float64)
    on = np.array([[row(one.get("targets", {}).get(t, [None] * 3)) for t in targets] for one in own], dtype=np.float64)
    differs, beyond, small, estimate = mean.T
    differs_on, small_on, estimate_on = np.moveaxis(on, -1, 0)
    return (
        PerTest(differs, beyond, small, small_on.max(axis=-1), differs_on, small_on),
        PerTest(estimate, estimate, estimate, estimate, estimate_on, estimate_on),
    )


def judge_looks(
    cells: Cells,
    contrasts: Sequence[Contrast],
    smallest: float,
    looks: Looks,
    rng: np.random.Generator,
    alpha: float = ALPHA,
    kept: Sequence[LookRecord | None] = (),
) -> tuple[Judged, ...]:
    """Verdicts after the looks that are done, with the error kept over all of them.

    A look sees the first replicates of ``cells``, in the order declared: every one of them must have ended, whatever
    its outcome. ``kept``: what each of the looks done saw when it happened, None for one whose record does not say;
    what is not kept, and what a look could not test, is computed from ``cells``, in which a trial that had no result at
    the time may have one now. The effects shown are those of the last look; what an earlier one has decided stands, in
    the direction it saw. Before the first look all is undecided, and the effects are of the replicates there are.
    Raises ``ValueError`` for a look for which ``cells`` has too few replicates.
    """
    check(contrasts, smallest)
    if not looks.done:
        return _unseen(cells, contrasts, looks, rng)
    past = looks.past
    if past[-1] > len(cells.replicates):
        raise ValueError(f"A look at {past[-1]} replicates needs as many, but there are {len(cells.replicates)}.")
    latest = [estimated(_first(cells, past[-1]), contrast, rng) for contrast in contrasts]
    each = []
    for look, then in zip(past, [*kept, *[None] * looks.done], strict=False):
        known = {name: one for name, one in (then or {}).items() if one["mean"][0] is not None}
        if len(known) < len(contrasts):
            now = _first(cells, look)
            found = latest if look == past[-1] else [estimated(now, contrast, rng) for contrast in contrasts]
            known = {**look_record(found, smallest), **known}
        each.append(_recalled(known, contrasts, [target.name for target in cells.targets]))
    p, seen = (PerTest.stacked(one) for one in zip(*each, strict=True))
    decided = _decided(p, seen, looks.errors[: looks.done], alpha)

    def error(count: int) -> float:
        return looks.error(count, alpha)

    return settle(latest, *decided, smallest, alpha, cells.replicates[: past[-1]], error, looks.ahead)


def _unseen(cells: Cells, contrasts: Sequence[Contrast], looks: Looks, rng: np.random.Generator) -> tuple[Judged, ...]:
    """No verdict: to look before the first planned look would be one more."""
    ended, none = int(cells.finished.all(axis=0).sum()), math.nan
    why = (
        f"its verdict comes at {looks.at[0]} replicates, of which {ended} are complete: to look before is to look twice"
    )
    verdict = Undecided(max(1, looks.at[0] - ended), why)
    found = (estimated(cells, contrast, rng) for contrast in contrasts)
    return tuple(Judged(mean, targets, none, none, none, none, verdict, none) for mean, targets in found)


def _decided(p: PerTest, seen: PerTest, steps: Sequence[float], alpha: float) -> tuple[PerTest, PerTest]:
    """The p-values over the looks, and the estimates at the look at which each test was first decided, else the latest.

    Of two verdicts that contradict each other, *matters* and *too small*, the earlier stands: the p of the later is 1.
    """

    def over(values: Floats) -> Floats:
        return over_looks(values, steps, alpha)

    def first(values: Floats) -> Floats:
        """(k,): the number of the look at which each was decided, that of the last and one more if none."""
        by_look = [over_looks(values[: look + 1], steps[: look + 1], alpha) <= alpha for look in range(len(steps))]
        undecided: Floats = (~np.stack(by_look)).sum(axis=0).astype(np.float64)
        return undecided

    found, at = p.each(over), p.each(first)

    def picked(estimates: Floats, look: Floats) -> Floats:
        last = np.minimum(look, len(steps) - 1).astype(np.intp)
        chosen: Floats = np.take_along_axis(estimates, last[None], axis=0)[0]
        return chosen

    small = np.minimum(at.small, at.everywhere)
    both = np.maximum(at.beyond, small) < len(steps)
    late, early = both & (at.beyond > small), both & (at.beyond <= small)
    found = replace(
        found,
        beyond=np.where(late, 1.0, found.beyond),
        small=np.where(early, 1.0, found.small),
        everywhere=np.where(early, 1.0, found.everywhere),
    )
    return found, PerTest(*(picked(getattr(seen, name), getattr(at, name)) for name in vars(p)))


def _first(cells: Cells, count: int) -> Cells:
    """The cells of the first ``count`` replicates."""
    targets = tuple(replace(target, scores=target.scores[:, :count]) for target in cells.targets)
    return Cells(cells.arms, cells.replicates[:count], targets, cells.finished[:, :count])
