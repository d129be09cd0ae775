"""Points on the simplex of loss weights: does a mixture beat its components?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import combinations, product
from math import lcm
from typing import Any, ClassVar, Literal

from harness.designs.changes import named
from harness.stats.scores import Contrast
from sam2lora.config import TrialConfig
from sam2lora.losses import Loss
from sam2lora.weighted_loss import weighted

Point = tuple[Fraction, ...]
_MOST = 6


@dataclass(frozen=True)
class Mixture:
    """A mixture design over ``losses``, components of the loss by name (Scheffe 1958, 1963).

    ``degree`` None is the simplex-centroid design: every non-empty subset with equal weights, 2^k - 1 arms. A number m
    is the simplex-lattice {k, m}: all weights in multiples of 1/m. ``inside`` adds the centroid of all components and
    the points half-way from it to each component where the design lacks them, for the check of fit.

    An arm is named by its parts: ``4 bce+soft_dice`` is four fifths of one and a fifth of the other.

    The contrast of two components is the mean of their binary mixtures less the weighted mean of the two alone: 0 if
    they mix linearly. Where the centroid is an arm, ``"mixing all"`` is the same for all components.
    """

    losses: Mapping[str, Loss]
    degree: int | None = None
    inside: bool = False
    kind: ClassVar[Literal["mixture"]] = "mixture"

    def __post_init__(self) -> None:
        named(self.losses, 2, _MOST, "A mixture")
        if self.degree is not None and self.degree < 2:
            raise ValueError(
                f"A lattice must have mixtures, so degree must be 2 or more, but is {self.degree}: raise it."
            )

    def points(self) -> dict[str, dict[str, float]]:
        """The weight of every component by arm, the components alone first."""
        names = list(self.losses)
        return {
            self._name(point): {name: float(weight) for name, weight in zip(names, point, strict=True)}
            for point in self._points()
        }

    def arms(self, base: TrialConfig) -> dict[str, TrialConfig]:
        """The settings of every point."""
        return {
            name: replace(base, loss=weighted((self.losses[part], weights[part]) for part in weights))
            for name, weights in self.points().items()
        }

    def contrasts(self) -> tuple[Contrast, ...]:
        """The gain of mixing, by pair of components and for all of them."""
        points = self._points()
        pairs = combinations(range(len(self.losses)), 2)
        names = list(self.losses)
        mixed = [(f"{names[a]} with {names[b]}", self._between(points, {a, b})) for a, b in pairs]
        if len(names) > 2:
            mixed.append(("mixing all", [point for point in points if len(set(point)) == 1]))
        return tuple(Contrast(name, self._gain(inside)) for name, inside in mixed if inside)

    def baselines(self) -> frozenset[str]:
        """The point of the base, whichever that is."""
        return frozenset(self.points())

    def membership(self) -> dict[str, list[str]]:
        """None: an arm has a weight of each component."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Kind, components, the weights of every arm, and as reference that of equal weights, else the first one."""
        points = self.points()
        equal = [name for name, weights in points.items() if len(set(weights.values())) == 1]
        parts = {"components": list(self.losses), "degree": self.degree, "points": points}
        return {"kind": self.kind, **parts, "reference": [*equal, *points][0]}

    def _points(self) -> list[Point]:
        count = len(self.losses)
        drawn = set(_centroids(count) if self.degree is None else _lattice(count, self.degree))
        if self.inside:
            centre = (Fraction(1, count),) * count
            drawn |= {
                centre,
                *(tuple((a + b) / 2 for a, b in zip(centre, _corner(count, i), strict=True)) for i in range(count)),
            }
        return sorted(drawn, key=lambda point: (sum(weight > 0 for weight in point), [-weight for weight in point]))

    def _name(self, point: Point) -> str:
        parts = [(weight, name) for weight, name in zip(point, self.losses, strict=True) if weight]
        whole = lcm(*(weight.denominator for weight, _ in parts))
        shares = [(int(weight * whole), name) for weight, name in parts]
        return "+".join(name if share == 1 else f"{share} {name}" for share, name in shares)

    def _between(self, points: list[Point], pair: set[int]) -> list[Point]:
        """The points with weight on both of a pair and on nothing else."""
        return [point for point in points if {i for i, weight in enumerate(point) if weight} == pair]

    def _gain(self, inside: list[Point]) -> dict[str, float]:
        """The mean of some mixtures minus their pure components in the same proportions."""
        weights = {self._name(point): 1.0 / len(inside) for point in inside}
        for place, name in enumerate(self.losses):
            share = float(sum(point[place] for point in inside)) / len(inside)
            if share:
                weights[name] = -share
        return weights


def _centroids(count: int) -> Iterator[Point]:
    for size in range(1, count + 1):
        for members in combinations(range(count), size):
            yield tuple(Fraction(1, size) if place in members else Fraction(0) for place in range(count))


def _lattice(count: int, degree: int) -> Iterator[Point]:
    for steps in product(range(degree + 1), repeat=count):
        if sum(steps) == degree:
            yield tuple(Fraction(step, degree) for step in steps)


def _corner(count: int, place: int) -> Point:
    return tuple(Fraction(int(other == place)) for other in range(count))
