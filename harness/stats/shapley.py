"""Shapley values, main effects and interactions of the components of a factorial, as contrasts of arms.

An arm of a factorial is a coalition: the set of components that are on. All three answers are weighted sums of the
arms' scores, so they are `Contrast`s, and `harness.stats.effects` gives their estimates, intervals and p-values by
the method of every other contrast. Nothing is sampled: with k components all 2^k coalitions are in the sums.

- A *Shapley value* splits the gain from no component to all components among them (Shapley 1953): the mean over all
  orders of adding them of what the component added when it came. The values add up to that gain.
- Its *worth given training*, where the empty coalition trains nothing: the same mean without the first place of each
  order. Whichever component comes first brings training as such, which no component is worth; with the first
  place each would get 1/k of it, a component without any effect as well. These values do not add up to a gain. A
  component that adds nothing to any trained arm is worth 0.
- A *main effect* is the mean gain of adding the component to a coalition of others, each coalition with equal weight:
  the verdicts of a factorial (`harness.designs.factorial`).
- A *simple effect* is the same over the coalitions that have, or lack, one other component: a main effect is the mean
  of both, weighted by the number of coalitions.
- An *interaction* of two components is the mean of v(S+i+j) - v(S+i) - v(S+j) + v(S) over the coalitions S of the
  others (the factorial contrast; Banzhaf interaction index, Grabisch & Roubens 1999). Above 0 they help each other.

Where an arm lacks a replicate, all of them use the same table with that run filled in
(`harness.stats.imputation`), so that the values still add up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

from harness.stats.refusal import Refused
from harness.stats.scores import Contrast

Coalition = frozenset[str]
Coalitions = Mapping[Coalition, str]
"""The arm of each coalition of components."""


def coalitions(components: Mapping[str, Sequence[str]], arms: Sequence[str]) -> dict[Coalition, str]:
    """The coalition of every arm, from ``components``: the arms that hold each component.

    An arm that no component names is the empty coalition. Raises ``ValueError`` when a component names an arm that is
    not among ``arms``, or when two arms are one coalition.
    """
    if unknown := {arm for holders in components.values() for arm in holders} - set(arms):
        raise ValueError(f"Components must be held by arms of {', '.join(arms)}, but also name {sorted(unknown)}.")
    coalitions: dict[Coalition, str] = {}
    for arm in arms:
        held = frozenset(name for name, holders in components.items() if arm in holders)
        if held in coalitions:
            raise ValueError(
                f"Arms of a factorial must differ in their components, but {coalitions[held]} and {arm} both have "
                f"{_named(held)}: leave one out, or name what they differ in."
            )
        coalitions[held] = arm
    return coalitions


def shapley_values(arms: Coalitions) -> tuple[Contrast, ...] | Refused:
    """The Shapley value of every component, as contrasts named by component, in alphabetical order.

    The weight of adding a component to a coalition of s others is s! (k - 1 - s)! / k!. Where the empty coalition is
    no arm, the values are the worth given training: over coalitions of one or more, these weights times k / (k - 1).
    Refused unless all other coalitions are arms.
    """
    names, empty = _components(arms), Coalition() in arms
    if refused := _factorial("Shapley values", 1 if empty else 2, names, arms):
        return refused
    k = len(names)
    share = [math.factorial(s) * math.factorial(k - 1 - s) / math.factorial(k) for s in range(k)]
    whole = 1.0 if empty else (k - 1) / k
    return tuple(_gains(name, arms, lambda others: share[len(others)] / whole) for name in names)


def main_effect(name: str, arms: Coalitions) -> Contrast:
    """The mean gain of adding ``name`` to each of ``arms`` that lacks it, each with equal weight.

    The empty coalition counts as any other where it is among ``arms``: leave it out where it trains nothing, since what
    a component does without any other is another question. Raises ``ValueError`` unless some arm lacks ``name`` and
    every one that does is there with it, too.
    """
    without = [others for others in arms if name not in others]
    if not without or (absent := [others | {name} for others in without if others | {name} not in arms]):
        value = f"no arm is {'; '.join(map(_named, absent))}" if without else "all arms have it"
        raise ValueError(
            f"The main effect of {name} compares every arm without it with the same arm and {name}, but {value}: "
            f"declare the arms of a full factorial."
        )
    return _gains(name, arms, lambda others: 1.0 / len(without))


def simple_effect(name: str, other: str, arms: Coalitions, *, present: bool) -> Contrast:
    """The main effect of ``name`` over those of ``arms`` that have ``other`` (``present``) or lack it.

    Raises ``ValueError`` as `main_effect` does.
    """
    chosen = {held: arm for held, arm in arms.items() if (other in held) == present}
    return Contrast(f"{name} {'with' if present else 'without'} {other}", main_effect(name, chosen).weights)


def interactions(arms: Coalitions) -> tuple[Contrast, ...] | Refused:
    """The interaction of every pair of components that has one, named ``a x b``: the mean over those coalitions of the
    others with which all four of neither, one, other and both are arms.

    Without the empty coalition three or more components are needed. Refused where no pair has such a coalition.
    """
    names = _components(arms)
    if refused := _enough("Interactions", 2 if Coalition() in arms else 3, names):
        return refused
    pairs = (interaction(one, other, arms) for one, other in combinations(names, 2))
    made = tuple(one for one in pairs if one is not None)
    rule = "An interaction needs two components in all four combinations with the same others"
    return made or Refused(rule, "no two of them are arms in these", "declare a full factorial")


def interaction(one: str, other: str, arms: Coalitions) -> Contrast | None:
    """The interaction of two components (`interactions`); None where no coalition of the others has all four."""
    added = ((Coalition(), 1), (Coalition({one}), -1), (Coalition({other}), -1), (Coalition({one, other}), 1))
    contexts = [
        context
        for context in _subsets(sorted({*_components(arms)} - {one, other}))
        if all(context | more in arms for more, _ in added)
    ]
    weights = dict.fromkeys(arms.values(), 0.0)
    for context in contexts:
        for more, sign in added:
            weights[arms[context | more]] += sign / len(contexts)
    return Contrast(f"{one} x {other}", _without_zeros(weights)) if contexts else None


def _gains(name: str, arms: Coalitions, share: Callable[[Coalition], float]) -> Contrast:
    """The sum over coalitions of others of ``share`` times what ``name`` adds to them."""
    weights = dict.fromkeys(arms.values(), 0.0)
    for others in arms:
        if name not in others and (weight := share(others)):
            weights[arms[others | {name}]] += weight
            weights[arms[others]] -= weight
    return Contrast(name, _without_zeros(weights))


def _enough(what: str, least: int, names: Sequence[str]) -> Refused | None:
    if len(names) >= least:
        return None
    need = f"{what} without the arm of no component need {least} or more components"
    return Refused(need, f"the arms have {len(names)}", "add a component, or the untrained model as an arm")


def _factorial(what: str, least: int, names: Sequence[str], arms: Coalitions) -> Refused | None:
    absent = [one for one in _subsets(names) if one and one not in arms]
    refused = _enough(what, least, names)
    return refused or (_incomplete(f"{what} need every coalition that is not empty", absent) if absent else None)


def _incomplete(rule: str, absent: Sequence[Coalition]) -> Refused:
    there = "; ".join(_named(one) for one in absent)
    return Refused(rule, f"no arm is {there}", "declare a full factorial, or read the contrasts that the arms allow")


def _components(arms: Coalitions) -> list[str]:
    return sorted(Coalition().union(*arms))


def _subsets(names: Sequence[str]) -> list[Coalition]:
    return [Coalition(chosen) for size in range(len(names) + 1) for chosen in combinations(names, size)]


def _without_zeros(weights: Mapping[str, float]) -> dict[str, float]:
    return {arm: weight for arm, weight in weights.items() if weight}


def _named(held: Coalition) -> str:
    return " + ".join(sorted(held)) or "without components"
