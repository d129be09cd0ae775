"""The vessels of a procedural eye: arcades that leave the optic disc, arch around the fovea, branch and taper.

Lengths are in units of the radius of the field of view, whose centre is the origin; x points to the temple and y
down. Trunks follow ellipses about the fovea (temporal) or leave radially (nasal). A branch takes a share of the
calibre and the trunk keeps the rest, so that the sum of cubes falls slowly, as Murray's law has it (1926).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sam2lora.datasets.hospitals import Look

_STEP = 0.03  # length of one segment
_THINNEST = 0.0058  # about one pixel in an image of 384
_REACH = 1.06  # growth ends this far from the centre


@dataclass(frozen=True)
class Anatomy:
    """Where disc and fovea of one eye lie, and the radius of the disc."""

    disc: tuple[float, float]
    fovea: tuple[float, float]
    radius: float


@dataclass(frozen=True)
class Branch:
    """One vessel without its branches: ``points`` [(x, y), ...], the calibre at each, and which kind it is."""

    points: list[tuple[float, float]]
    calibres: list[float]
    artery: bool


@dataclass
class _Bud:
    """A branch that has not grown yet. ``pull``: what its course tends to; ``depth``: how many branches lie before."""

    x: float
    y: float
    heading: float
    calibre: float
    artery: bool
    pull: str
    depth: int


def grow(look: Look, anatomy: Anatomy, rng: np.random.Generator) -> list[Branch]:
    """The branches of one eye, from the thinnest to the thickest."""
    buds = _roots(look, anatomy, rng)
    branches: list[Branch] = []
    while buds and len(branches) < 400:
        branch, children = _extend(buds.pop(), look, anatomy, rng)
        branches.append(branch)
        buds += children
    return sorted(branches, key=lambda branch: branch.calibres[0])


def _roots(look: Look, anatomy: Anatomy, rng: np.random.Generator) -> list[_Bud]:
    """An artery and a vein for every quadrant, and a few small vessels towards the fovea and the nose."""
    x, y = anatomy.disc
    roots: list[_Bud] = []
    for vertical in (-1, 1):
        for pull, first, share in (("arcade", 72.0, 1.0), ("nasal", 132.0, 0.72)):
            lean = rng.normal(0, 7)
            for artery in (False, True):
                angle = math.radians(vertical * (first + lean + (11 if artery else -9) + rng.normal(0, 4)))
                calibre = look.calibre * share * (0.74 if artery else 1.0) * rng.uniform(0.85, 1.12)
                roots.append(_Bud(x, y, angle, calibre, artery, pull, 0))
    for _ in range(int(rng.integers(3, 7))):
        angle = math.radians(rng.choice((-1, 1)) * rng.choice((rng.uniform(8, 40), rng.uniform(120, 178))))
        pull = "inner" if abs(angle) < 1 else "nasal"
        roots.append(_Bud(x, y, angle, look.calibre * rng.uniform(0.25, 0.42), bool(rng.integers(2)), pull, 1))
    return roots


def _extend(bud: _Bud, look: Look, anatomy: Anatomy, rng: np.random.Generator) -> tuple[Branch, list[_Bud]]:
    """Grow one bud to its end and collect the buds on its way."""
    x, y, heading, calibre = bud.x, bud.y, bud.heading, bud.calibre
    steps = int(2.5 / _STEP * min(1.0, calibre / look.calibre) ** 0.68)
    wander = rng.normal(0, 1, steps + 1)
    sway, phase = rng.uniform(0.5, 1.3), rng.uniform(0, 2 * math.pi)
    points, calibres = [(x, y)], [calibre]
    children: list[_Bud] = []
    side = int(rng.choice((-1, 1)))
    gap = _gap(calibre, look, rng)
    turn = 0.0
    for step in range(steps):
        turn = 0.6 * turn + 0.068 * look.tortuosity * wander[step]
        turn += 0.05 * (look.tortuosity - 0.5) * sway * math.sin(phase + 0.75 * step)
        heading += _steer(bud.pull, x, y, heading, anatomy) + turn
        x, y = x + _STEP * math.cos(heading), y + _STEP * math.sin(heading)
        calibre *= 1 - 0.2 * _STEP
        points.append((x, y))
        calibres.append(calibre)
        if math.hypot(x, y) > _REACH or calibre < 0.8 * _THINNEST or _in_fovea(x, y, anatomy):
            return Branch(points, calibres, bud.artery), children
        gap -= _STEP
        if gap <= 0 and bud.depth < 4:
            child = _child(bud, x, y, heading, calibre, side, rng)
            if child.calibre >= _THINNEST:
                children.append(child)
            calibre -= 0.16 * child.calibre
            side, gap = (-side if rng.random() < 0.8 else side), _gap(calibre, look, rng)
    if bud.depth < 4 and calibre > 1.3 * _THINNEST:
        spread = rng.uniform(0.3, 0.6)
        ends = (heading - spread, heading + spread)
        children += [_Bud(x, y, end, calibre * 0.78, bud.artery, bud.pull, bud.depth + 1) for end in ends]
    return Branch(points, calibres, bud.artery), children


def _gap(calibre: float, look: Look, rng: np.random.Generator) -> float:
    """The way to the next branch: thick vessels branch often, thin ones seldom."""
    return float(rng.uniform(0.06, 0.22) * (0.8 + 0.3 * look.calibre / calibre) / look.density)


def _child(bud: _Bud, x: float, y: float, heading: float, calibre: float, side: int, rng: np.random.Generator) -> _Bud:
    angle = heading + side * rng.uniform(0.5, 1.0)
    share = rng.choice((rng.uniform(0.2, 0.4), rng.uniform(0.4, 0.75)))
    pull = "free" if bud.pull in ("inner", "free", "nasal") else "branch"
    return _Bud(x, y, float(angle), float(calibre * share), bud.artery, pull, bud.depth + 1)


def _steer(pull: str, x: float, y: float, heading: float, anatomy: Anatomy) -> float:
    """The change of heading in one step that the course of a vessel asks for."""
    fx, fy = x - anatomy.fovea[0], y - anatomy.fovea[1]
    if pull == "arcade":
        along = math.atan2(fx, -fy * 1.25)
        return 0.16 * _least(along, heading)
    if pull == "nasal":
        return 0.05 * math.sin(math.atan2(y - anatomy.disc[1], x - anatomy.disc[0]) - heading)
    if pull == "inner":
        return 0.06 * math.sin(math.atan2(-fy, -fx) - heading)
    outward = math.atan2(fy, fx)
    inside = math.hypot(fx, fy) < 0.75 * math.dist(anatomy.disc, anatomy.fovea)
    target = outward + math.pi if inside and pull == "branch" else outward
    return 0.055 * math.sin(target - heading)


def _least(axis: float, heading: float) -> float:
    """The angle from ``heading`` to the nearer end of an axis, in [-pi/2, pi/2]."""
    return (axis - heading + math.pi / 2) % math.pi - math.pi / 2


def _in_fovea(x: float, y: float, anatomy: Anatomy) -> bool:
    return math.dist((x, y), anatomy.fovea) < 0.17 * math.dist(anatomy.disc, anatomy.fovea)
