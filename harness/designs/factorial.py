"""Every combination of some factors: what does each bring, and do they depend on each other?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar, Literal

from harness.designs.changes import BASE, Factor, changes_of, check_apart, losses_of, named, present
from harness.stats.scores import Contrast
from harness.stats.shapley import main_effect
from sam2lora.config import TrialConfig, frozen

EMPTY = "empty"
"""The arm that trains nothing: the coalition without a component, where components are losses."""
_MOST = 4


@dataclass(frozen=True)
class Factorial:
    """All 2^k coalitions of up to four ``factors``, components of the loss or changes, by name.

    Components of the loss share it equally; a coalition needs one, so k of them alone make 2^k - 1 arms. ``empty`` adds
    the missing coalition: the untrained model (no adapters, one epoch, in which nothing is learned), without
    which no Shapley value exists. Where all factors are changes the empty coalition is the base and always there.

    The contrast of a factor is its main effect: the mean gain of adding it, over all coalitions of the others that can
    be trained without it.
    """

    factors: Mapping[str, Factor]
    empty: bool = False
    kind: ClassVar[Literal["factorial"]] = "factorial"

    def __post_init__(self) -> None:
        named(self.factors, 2, _MOST, "A full factorial")
        if self.empty and changes_of(self.factors):
            raise ValueError(
                "The empty coalition is a separate arm only where all factors are components of the loss, but some are "
                "changes: leave empty out."
            )

    def coalitions(self) -> dict[str, frozenset[str]]:
        """The factors that each arm has, by the arm's name, fewest first."""
        sizes = range(len(self.factors) + 1)
        found = {self._name(members): frozenset(members) for n in sizes for members in combinations(self.factors, n)}
        return {name: members for name, members in found.items() if self._trains(members) or name == EMPTY}

    def arms(self, base: TrialConfig) -> dict[str, TrialConfig]:
        """The settings of every coalition."""
        check_apart(base, self.factors)
        return {
            name: frozen(base)
            if name == EMPTY
            else present(base, {other: factor for other, factor in self.factors.items() if other in members})
            for name, members in self.coalitions().items()
        }

    def contrasts(self) -> tuple[Contrast, ...]:
        """One main effect for each factor, by its name."""
        trained = {members: name for name, members in self.coalitions().items() if self._trains(members)}
        return tuple(main_effect(factor, trained) for factor in self.factors)

    def baselines(self) -> frozenset[str]:
        """The coalition of the base, whichever that is."""
        return frozenset(self.coalitions())

    def membership(self) -> dict[str, list[str]]:
        """The arms that have each factor."""
        coalitions = self.coalitions().items()
        return {factor: [name for name, members in coalitions if factor in members] for factor in self.factors}

    def describe(self) -> dict[str, Any]:
        """Kind, factors and the arm with all of them as reference."""
        everything = self._name(tuple(self.factors))
        return {"kind": self.kind, "factors": list(self.factors), "empty": self.empty, "reference": everything}

    def _name(self, members: tuple[str, ...]) -> str:
        if members:
            return "+".join(members)
        return EMPTY if self.empty else BASE

    def _trains(self, members: frozenset[str]) -> bool:
        """Whether there is a loss to train on."""
        losses = losses_of(self.factors)
        return not losses or any(name in members for name in losses)
