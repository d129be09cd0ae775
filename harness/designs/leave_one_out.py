"""All factors, and all but one: what is lost without it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from harness.designs.changes import Factor, check_apart, losses_of, named, present
from harness.stats.scores import Contrast
from sam2lora.config import TrialConfig

_ALL = "all"
_MOST = 16


@dataclass(frozen=True)
class LeaveOneOut:
    """The arm with all ``factors``, and for each of them the arm without it. Losses among them share the loss equally.

    The contrast of a factor is what it adds to all the others. A factor that others can stand in for looks useless
    here, although leaving both out would hurt: only a factorial tells.
    """

    factors: Mapping[str, Factor]
    kind: ClassVar[Literal["leave_one_out"]] = "leave_one_out"

    def __post_init__(self) -> None:
        named(self.factors, 2, _MOST, "Leave-one-out")
        if len(losses_of(self.factors)) == 1:
            raise ValueError(
                "An arm must have a loss, but leaving out the only component leaves none: name two components or none."
            )

    def arms(self, base: TrialConfig) -> dict[str, TrialConfig]:
        """The settings of every arm."""
        check_apart(base, self.factors)
        return {
            name: present(base, {other: factor for other, factor in self.factors.items() if other != out})
            for name, out in {_ALL: None, **{_without(out): out for out in self.factors}}.items()
        }

    def contrasts(self) -> tuple[Contrast, ...]:
        """All factors minus all but one, by the name of that one."""
        return tuple(Contrast(name, {_ALL: 1.0, _without(name): -1.0}) for name in self.factors)

    def baselines(self) -> frozenset[str]:
        """Any of them: the base may have any set of the factors."""
        return frozenset({_ALL, *map(_without, self.factors)})

    def membership(self) -> dict[str, list[str]]:
        """The arms that have each factor."""
        return {name: [_ALL, *(_without(other) for other in self.factors if other != name)] for name in self.factors}

    def describe(self) -> dict[str, Any]:
        """Kind, factors and the arm with all of them as reference."""
        return {"kind": self.kind, "factors": list(self.factors), "reference": _ALL}


def _without(name: str) -> str:
    return f"without {name}"
