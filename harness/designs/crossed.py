"""Two factors of several levels each, in all combinations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from harness.designs.changes import Change, check_joint
from harness.designs.levels import check_levels
from harness.stats.scores import Contrast
from sam2lora.config import TrialConfig


@dataclass(frozen=True)
class Crossed:
    """An arm for each pair of a level of ``first`` and a level of ``second``, which is changed after it.

    ``factor``: the paths of the settings that they may change. ``reference``: a level of each. The contrasts are each
    other level less the reference of its factor, both averaged over the levels of the other factor.
    """

    factor: tuple[str, ...]
    first: Mapping[str, Change]
    second: Mapping[str, Change]
    reference: tuple[str, str]
    kind: ClassVar[Literal["crossed"]] = "crossed"

    def __post_init__(self) -> None:
        for levels, reference in zip((self.first, self.second), self.reference, strict=True):
            check_levels(levels, reference, "levels of a factor")
        if shared := sorted(set(self.first) & set(self.second)):
            raise ValueError(
                f"The levels of the two factors must have different names, but both have {', '.join(shared)}: rename "
                f"them in one."
            )

    def arms(self, base: TrialConfig) -> dict[str, TrialConfig]:
        """The settings of every pair."""
        arms = {_name(one, other): self.second[other](self.first[one](base)) for one, other in self._pairs()}
        check_joint(base, arms, self.factor)
        return arms

    def contrasts(self) -> tuple[Contrast, ...]:
        """Each level minus the reference, by the level's name."""
        one, other = self.reference
        along = [
            Contrast(level, self._mean(0, level) | self._mean(0, one, -1.0)) for level in self.first if level != one
        ]
        across = [
            Contrast(level, self._mean(1, level) | self._mean(1, other, -1.0))
            for level in self.second
            if level != other
        ]
        return (*along, *across)

    def baselines(self) -> frozenset[str]:
        """The pair of references."""
        return frozenset({_name(*self.reference)})

    def membership(self) -> dict[str, list[str]]:
        """None: an arm is a pair of levels."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Kind, factor, levels, and the arm of both references."""
        levels = {"first": list(self.first), "second": list(self.second)}
        return {"kind": self.kind, "factor": list(self.factor), **levels, "reference": _name(*self.reference)}

    def _pairs(self) -> Iterator[tuple[str, str]]:
        yield from ((one, other) for one in self.first for other in self.second)

    def _mean(self, place: int, level: str, sign: float = 1.0) -> dict[str, float]:
        """The weights of the mean over the arms that have ``level``."""
        arms = [_name(*pair) for pair in self._pairs() if pair[place] == level]
        return dict.fromkeys(arms, sign / len(arms))


def _name(one: str, other: str) -> str:
    return f"{one} {other}"
