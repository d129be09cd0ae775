"""One factor at several levels: which of them is better than the reference?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from harness.designs.changes import Change, check_joint
from harness.stats.scores import Contrast
from sam2lora.config import TrialConfig


@dataclass(frozen=True)
class Levels:
    """An arm for each of ``levels``, a change by name, in their order.

    ``factor``: the paths of the settings that the levels may change, whole fields included: ``("adapters.0.rank",
    "adapters.0.alpha")`` says that the two change jointly. A level that changes anything else is refused. The contrasts
    are each level less the level ``reference``.
    """

    factor: tuple[str, ...]
    levels: Mapping[str, Change]
    reference: str
    kind: ClassVar[Literal["levels"]] = "levels"

    def __post_init__(self) -> None:
        check_levels(self.levels, self.reference, "levels")

    def arms(self, base: TrialConfig) -> dict[str, TrialConfig]:
        """The settings of every level."""
        arms = {name: change(base) for name, change in self.levels.items()}
        check_joint(base, arms, self.factor)
        return arms

    def contrasts(self) -> tuple[Contrast, ...]:
        """Each level minus the reference, by the level's name."""
        others = (name for name in self.levels if name != self.reference)
        return tuple(Contrast(name, {name: 1.0, self.reference: -1.0}) for name in others)

    def baselines(self) -> frozenset[str]:
        """The reference."""
        return frozenset({self.reference})

    def membership(self) -> dict[str, list[str]]:
        """None: an arm is one level."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Kind, factor, levels and reference."""
        named = {"factor": list(self.factor), "levels": list(self.levels), "reference": self.reference}
        return {"kind": self.kind, **named}


def check_levels(levels: Mapping[str, Change], reference: str, what: str) -> None:
    """Raise ``ValueError`` unless there are two levels and the reference is one of them."""
    if len(levels) < 2:
        raise ValueError(f"There must be two {what} to compare, but there is {len(levels)}: add one.")
    if reference not in levels:
        raise ValueError(
            f"The reference must be one of the {what}, but is {reference!r}: choose one of {', '.join(levels)}."
        )
