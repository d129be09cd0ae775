"""The base, and the base with one factor added: what does it bring?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from harness.designs.changes import BASE, Factor, changes_of, losses_of, named
from harness.stats.scores import Contrast
from sam2lora.config import TrialConfig
from sam2lora.losses import Loss
from sam2lora.weighted_loss import equal

_MOST = 16


@dataclass(frozen=True)
class AddOneIn:
    """The base itself, and for each of ``factors`` the base with it.

    A component of the loss joins those of the base, all with equal weight; a base of unequal weights is refused, since
    it does not say what weight a further one should have. The contrast of a factor is what it adds to the base.
    """

    factors: Mapping[str, Factor]
    kind: ClassVar[Literal["add_one_in"]] = "add_one_in"

    def __post_init__(self) -> None:
        named(self.factors, 1, _MOST, "Add-one-in")

    def arms(self, base: TrialConfig) -> dict[str, TrialConfig]:
        """The settings of every arm."""
        arms = {name: _joined(base, loss) for name, loss in losses_of(self.factors).items()}
        arms |= {name: change(base) for name, change in changes_of(self.factors).items()}
        return {BASE: base} | {_with(name): arms[name] for name in self.factors}

    def contrasts(self) -> tuple[Contrast, ...]:
        """The base with a factor minus the base, by the factor's name."""
        return tuple(Contrast(name, {_with(name): 1.0, BASE: -1.0}) for name in self.factors)

    def baselines(self) -> frozenset[str]:
        """The base."""
        return frozenset({BASE})

    def membership(self) -> dict[str, list[str]]:
        """The arms that have each factor."""
        return {name: [_with(name)] for name in self.factors}

    def describe(self) -> dict[str, Any]:
        """Kind, factors and the base as reference."""
        return {"kind": self.kind, "factors": list(self.factors), "reference": BASE}


def _with(name: str) -> str:
    return f"with {name}"


def _joined(base: TrialConfig, loss: Loss) -> TrialConfig:
    terms = base.loss.terms
    if any(abs(term.weight * len(terms) - 1.0) > 1e-6 for term in terms):
        raise ValueError(
            f"A component joins losses of equal weight, but those of the base weigh {dict(base.loss.weights)}: give "
            f"the base equal weights, or make the whole loss a change."
        )
    return replace(base, loss=equal(*(term.loss for term in terms), loss))
