"""Roles of arms in a recorded design: reference, untrained arm, coalitions, crossed factors."""

from __future__ import annotations

from harness.record.ablation_scores import RecordedAblation
from harness.stats import shapley
from harness.stats.interplay import Pairing, crossed_pairings
from harness.stats.interplay import pairings as factorial_pairings
from harness.stats.refusal import Refused


def reference(ablation: RecordedAblation) -> str:
    """The arm that others are compared with: the one in the design, or the first trained arm in an older record."""
    named = ablation.design.get("reference")
    if isinstance(named, str) and named in ablation.arms:
        return named
    empty = untrained(ablation)
    return next(arm for arm in ablation.arms if arm != empty)


def untrained(ablation: RecordedAblation) -> str | None:
    """The arm of a factorial over losses that trains nothing; None without one."""
    if not ablation.design.get("empty") or not ablation.components:
        return None
    held = zip(*ablation.components.values(), strict=True)
    return next((arm for arm, own in zip(ablation.arms, held, strict=True) if not any(own)), None)


def coalitions(ablation: RecordedAblation) -> shapley.Coalitions | Refused:
    """The coalition of components of each trained arm; refused where arms are no coalitions.

    The untrained arm is left out: compared with it, each component would seem to do all the work, and any two of them
    to replace each other.
    """
    if not ablation.components:
        return Refused(
            "Components need a factorial design", f"this one is {ablation.kind!r}", "read the contrasts instead"
        )
    held = {
        name: [arm for arm, has in zip(ablation.arms, holds, strict=True) if has]
        for name, holds in ablation.components.items()
    }
    try:
        arms = shapley.coalitions(held, ablation.arms)
    except ValueError as error:
        return Refused("Arms must be coalitions of components", str(error).rstrip("."), "read the contrasts instead")
    empty = untrained(ablation)
    return {coalition: arm for coalition, arm in arms.items() if arm != empty}


def pairings(ablation: RecordedAblation) -> tuple[Pairing, ...]:
    """The pairs of contrasts whose interaction the design can estimate; none without two crossed factors."""
    if ablation.kind == "crossed":
        design = ablation.design
        arms = {(one, other): f"{one} {other}" for one in design["first"] for other in design["second"]}
        named = next((pair for pair, arm in arms.items() if arm == design["reference"]), None)
        return crossed_pairings(arms, named) if named and set(arms.values()) == set(ablation.arms) else ()
    arms_of = coalitions(ablation)
    return () if isinstance(arms_of, Refused) else factorial_pairings(arms_of)
