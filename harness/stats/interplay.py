"""Interactions that a main effect hides: the gain of a component depends on another component.

Two components that do the same work both have a main effect, and next to each other neither adds anything. An average
hides that where the interaction is as large as what it averages. The rule: the interaction differs from 0, Holm over
all interactions of the design, and it is at least as large as the smaller of the two main effects, or what one of the
components adds changes its sign with the other. Such pairs are reported by their simple effects,
before any main effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from harness.stats.effects import Effect, effect
from harness.stats.multiplicity import adjust
from harness.stats.scores import Cells, Contrast
from harness.stats.shapley import Coalitions, interaction, simple_effect


@dataclass(frozen=True)
class Pairing:
    """Two contrasts of a family by name, their interaction, and what each adds without the other and with it."""

    one: str
    other: str
    interaction: Contrast
    simple: tuple[Contrast, Contrast, Contrast, Contrast]


@dataclass(frozen=True)
class Interplay:
    """A pair that depends on each other: ``interaction`` with its ``adjusted_p``.

    ``simple``: the first without the second and with it, then the second without the first and with it."""

    one: str
    other: str
    interaction: Effect
    adjusted_p: float
    simple: tuple[Effect, Effect, Effect, Effect]


def pairings(arms: Coalitions) -> tuple[Pairing, ...]:
    """Every pair of components of a factorial that has an interaction (``shapley.interaction``)."""
    made = []
    for one, other in combinations(sorted(frozenset().union(*arms)), 2):
        if (contrast := interaction(one, other, arms)) is None:
            continue
        simple = (
            simple_effect(one, other, arms, present=False),
            simple_effect(one, other, arms, present=True),
            simple_effect(other, one, arms, present=False),
            simple_effect(other, one, arms, present=True),
        )
        made.append(Pairing(one, other, contrast, simple))
    return tuple(made)


def crossed_pairings(arms: Mapping[tuple[str, str], str], reference: tuple[str, str]) -> tuple[Pairing, ...]:
    """Every level of one factor with every level of another, each but its reference, from the ``arms`` of all pairs."""
    first, second = reference
    made = []
    for one, other in arms:
        if one == first or other == second:
            continue
        both, neither = arms[one, other], arms[reference]
        first_only, second_only = arms[one, second], arms[first, other]
        made.append(
            Pairing(
                one,
                other,
                Contrast(f"{one} x {other}", {both: 1.0, first_only: -1.0, second_only: -1.0, neither: 1.0}),
                (
                    Contrast(f"{one} with {second}", {first_only: 1.0, neither: -1.0}),
                    Contrast(f"{one} with {other}", {both: 1.0, second_only: -1.0}),
                    Contrast(f"{other} with {first}", {second_only: 1.0, neither: -1.0}),
                    Contrast(f"{other} with {one}", {both: 1.0, first_only: -1.0}),
                ),
            )
        )
    return tuple(made)


def interplays(
    cells: Cells, among: Sequence[Pairing], mains: Mapping[str, float], rng: np.random.Generator, alpha: float = 0.05
) -> tuple[Interplay, ...]:
    """Those of ``among`` to which the rule above applies, the largest interaction first.

    ``mains``: the main effects, by name.
    """
    tested = [effect(cells, pair.interaction, None, rng) for pair in among]
    adjusted = adjust(np.array([one.p for one in tested]))
    made = []
    for pair, joint, p in zip(among, tested, adjusted.tolist(), strict=True):
        if not p <= alpha:
            continue
        a, b, c, d = (effect(cells, one, None, rng) for one in pair.simple)
        turns = a.estimate * b.estimate < 0.0 or c.estimate * d.estimate < 0.0
        if turns or abs(joint.estimate) >= min(abs(mains[pair.one]), abs(mains[pair.other])):
            made.append(Interplay(pair.one, pair.other, joint, p, (a, b, c, d)))
    return tuple(sorted(made, key=lambda one: -abs(one.interaction.estimate)))
