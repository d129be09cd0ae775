"""Procedural scenes: branching curves among shapes, on textured ground. No scene is, or imitates, one real photograph.

The curves are what nano learns to find without a prompt; a point or a box on any structure asks for that structure.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Bits = NDArray[np.bool_]
Field = NDArray[np.float32]

_FINER = 4  # curves are drawn this much finer and averaged, for widths below a pixel
_LEAST_PIXELS = 12  # of a structure that may be asked for


@dataclass(frozen=True)
class Scene:
    """``image`` (S, S, 3) uint8, ``curves`` (S, S) bool and the other ``structures``, each (S, S) and not empty.

    Of a structure the part is marked that no later one hides; curves lie on top and hide nothing.
    """

    image: Pixels
    curves: Bits
    structures: tuple[Bits, ...]


def plain_scene(size: int, rng: Generator) -> Scene:
    """A scene of two to four large shapes of strong contrast and nothing else: no curves, no camera."""
    image, structures = _ground(size, rng), list[Bits]()
    for _ in range(rng.integers(2, 5)):
        cover = _shape(size, rng, (0.08, 0.25))
        tint = rng.choice([-1.0, 1.0]) * rng.uniform(0.3, 0.6) + rng.uniform(-0.15, 0.15, 3)
        image = _blend(image, cover, tint.astype(np.float32)[None, None])
        structures = _on_top(structures, cover)
    return _scene(image, np.zeros((size, size), np.bool_), structures)


def scene(size: int, rng: Generator, shapes: tuple[int, int] = (0, 4)) -> Scene:
    """A scene of ``size`` x ``size`` pixels, a function of the state of ``rng`` alone.

    ``shapes``: the least and the largest number of structures beside the curves.
    """
    image = _ground(size, rng)
    structures: list[Bits] = []
    for _ in range(rng.integers(shapes[0], shapes[1] + 1)):
        cover = _shape(size, rng, (0.03, 0.25))
        image = _blend(image, cover, _contrast(size, rng))
        structures = _on_top(structures, cover)
    for _ in range(rng.integers(0, 4)):
        image = _shadow(image, rng)
    curves = _curves(size, rng)
    image = _ink(image, curves, rng)
    view = _view(size, rng)
    image = np.where(view[..., None], _camera(image, rng), rng.uniform(0, 0.04)).astype(np.float32)
    return _scene(image, (curves >= 0.5) & view, [mask & view for mask in structures])


def _on_top(structures: list[Bits], cover: Field) -> list[Bits]:
    shape = cover >= 0.5
    return [mask & ~shape for mask in structures] + [shape]


def _scene(image: Field, curves: Bits, structures: list[Bits]) -> Scene:
    seen = tuple(mask for mask in structures if np.count_nonzero(mask) >= _LEAST_PIXELS)
    return Scene((image.clip(0, 1) * 255).round().astype(np.uint8), curves, seen)


def _ground(size: int, rng: Generator) -> Field:
    """A coloured, textured, unevenly lit ground (S, S, 3); four in five are warm, as tissue is."""
    if rng.random() < 0.8:
        red = rng.uniform(0.35, 0.95)
        green = red * rng.uniform(0.3, 0.75)
        colour = np.array([red, green, green * rng.uniform(0.2, 0.9)])
    else:
        colour = rng.uniform(0.2, 0.9, 3)
    light = 1 + rng.uniform(0.02, 0.3) * _texture(size, 3, rng)
    grain = sum(rng.uniform(0, 0.06) * _texture(size, cells, rng) for cells in (8, 24, 64))
    tint = np.stack([rng.uniform(0, 0.06) * _texture(size, 5, rng) for _ in range(3)], axis=-1)
    return np.asarray(colour * (light + grain)[..., None] * (1 + tint), dtype=np.float32)


def _texture(size: int, cells: int, rng: Generator) -> Field:
    """Smooth noise (S, S) of unit variance at the knots, with about ``cells`` bumps along a side."""
    knots = rng.standard_normal((cells + 1, cells + 1)).astype(np.float32)
    return np.asarray(cv2.resize(knots, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.float32)


def _shape(size: int, rng: Generator, radii: tuple[float, float]) -> Field:
    """The cover (S, S) in [0, 1] of an ellipse, a wobbly outline, a polygon, a star or a ring, with a soft rim."""
    centre, radius = rng.uniform(0.1, 0.9, 2) * size, size * np.exp(rng.uniform(*np.log(radii)))
    kind = rng.choice(["ellipse", "wobble", "polygon", "star", "ring"])
    angles, lengths = _outline(kind, rng)
    turn = rng.uniform(0, 2 * np.pi)
    ray = np.stack([np.cos(angles), rng.uniform(0.55, 1.0) * np.sin(angles)], axis=-1) * lengths[:, None]
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    outline = radius * ray @ rotation.T
    cover = np.zeros((size, size), np.float32)
    cv2.fillPoly(cover, [(centre + outline).round().astype(np.int32)], 1.0, cv2.LINE_AA)
    if kind == "ring":
        hole = (centre + rng.uniform(0.4, 0.7) * outline).round().astype(np.int32)
        cv2.fillPoly(cover, [hole], 0.0, cv2.LINE_AA)
    return _blur(cover, rng.uniform(0.4, 2.0))


def _outline(kind: str, rng: Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Angles and lengths of the corners of an outline about its centre."""
    if kind == "polygon":
        corners = int(rng.integers(3, 8))
        return np.sort(rng.uniform(0, 2 * np.pi, corners)), np.ones(corners)
    if kind == "star":
        corners = 2 * int(rng.integers(3, 8))
        return np.linspace(0, 2 * np.pi, corners, endpoint=False), np.tile([1.0, rng.uniform(0.35, 0.7)], corners // 2)
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    if kind == "ellipse":
        return angles, np.ones(48)
    waves = sum(rng.uniform(0, 0.15) * np.cos(order * angles + rng.uniform(0, 2 * np.pi)) for order in (2, 3, 5, 7))
    return angles, 1 + np.asarray(waves)


def _contrast(size: int, rng: Generator) -> Field:
    """How a shape changes its ground, (1, 1, 3) or (S, S, 3): a tint, half of the time with a texture of its own."""
    strength = rng.choice([-1.0, 1.0], p=[0.35, 0.65]) * rng.uniform(0.12, 0.5)
    tint = (strength + rng.uniform(-0.15, 0.15, 3)).astype(np.float32)[None, None]
    if rng.random() < 0.5:
        return np.asarray(tint, np.float32)
    texture = rng.uniform(0.03, 0.15) * _texture(size, int(rng.integers(6, 48)), rng)
    return np.asarray(tint + texture[..., None], np.float32)


def _blend(image: Field, cover: Field, change: Field) -> Field:
    return np.asarray(image * (1 + cover[..., None] * change), dtype=np.float32)


def _shadow(image: Field, rng: Generator) -> Field:
    """A blurred dark or bright band: it looks like a vessel to a filter that is too coarse, and is none."""
    size = image.shape[0]
    band = np.zeros((size, size), np.uint8)
    _stroke(band, rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi), rng.uniform(4, 16), size, 0.04, rng, finer=1)
    cover = _blur(band.astype(np.float32), rng.uniform(3, 8))
    return _blend(image, cover, np.full(3, rng.uniform(-0.25, 0.2), np.float32))


def _curves(size: int, rng: Generator) -> Field:
    """The cover (S, S) in [0, 1] of one to five trees of curves that narrow as they branch."""
    canvas = np.zeros((size * _FINER, size * _FINER), np.uint8)
    root = rng.uniform(-0.1, 1.1, 2) * size
    for _ in range(rng.integers(1, 6)):
        if rng.random() < 0.3:
            root = rng.uniform(-0.1, 1.1, 2) * size
        _tree(canvas, root, rng.uniform(0, 2 * np.pi), size * rng.uniform(0.006, 0.028), size, rng)
    cover = cv2.resize(canvas.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(cover, dtype=np.float32)


def _tree(canvas: Pixels, root: NDArray[np.float64], heading: float, width: float, size: int, rng: Generator) -> None:
    """Draw a tree into ``canvas``: by Murray's law the cubes of the widths add up at every fork."""
    twigs = [(root, heading, width)]
    bend = rng.uniform(0.005, 0.04)
    for _ in range(60):  # a full tree of visible twigs has fewer
        if not twigs:
            return
        start, angle, wide = twigs.pop(0)
        length = size * rng.uniform(0.08, 0.35)
        end, angle = _stroke(canvas, start, angle, wide, length, bend, rng, finer=_FINER)
        inside = (np.abs(end - size / 2) < 0.65 * size).all()
        if not inside or wide < 0.5:
            continue
        share = rng.uniform(0.15, 0.5)
        side = rng.choice([-1.0, 1.0])
        spread = rng.uniform(0.3, 1.1)
        twigs.append((end, angle - side * spread * share, wide * (1 - share) ** (1 / 3)))
        twigs.append((end, angle + side * spread * (1 - share), wide * share ** (1 / 3)))


def _stroke(
    canvas: Pixels,
    start: NDArray[np.float64],
    heading: float,
    width: float,
    length: float,
    bend: float,
    rng: Generator,
    finer: int,
) -> tuple[NDArray[np.float64], float]:
    """Draw a curve of ``width`` whose heading drifts smoothly; returns its end and its heading there."""
    steps = max(2, round(length / 2))
    turn = np.cumsum(rng.normal(0, bend / 3, steps)) + rng.normal(0, bend)
    headings = heading + np.cumsum(turn)
    path = start + np.cumsum(2 * np.stack([np.cos(headings), np.sin(headings)], axis=-1), axis=0)
    points = (np.concatenate([start[None], path]) * finer).round().astype(np.int32)
    cv2.polylines(canvas, [points], isClosed=False, color=1, thickness=max(1, round(width * finer)))
    return path[-1], float(headings[-1])


def _ink(image: Field, cover: Field, rng: Generator) -> Field:
    """Darken the ground under the curves, most in green, with a contrast that fades and returns along them."""
    size = image.shape[0]
    depth = np.array([rng.uniform(0.1, 0.6), 1.0, rng.uniform(0.3, 1.0)], np.float32) * rng.uniform(0.15, 0.6)
    fading = (1 + rng.uniform(0, 0.3) * _texture(size, 4, rng)).clip(0.35, 1.4)
    soft = _blur(cover, rng.uniform(0.3, 0.9))
    dark = image * (1 - (soft * fading)[..., None] * depth).clip(0, 1)
    if rng.random() < 0.5:
        return np.asarray(dark, dtype=np.float32)
    reflex = _blur((_blur(cover, 1.2) > 0.85).astype(np.float32), 0.7) * rng.uniform(0.1, 0.5)
    return np.asarray(dark + reflex[..., None] * (image - dark), dtype=np.float32)


def _view(size: int, rng: Generator) -> Bits:
    """The field of view (S, S): a disc about the middle in three of four scenes, else everything."""
    if rng.random() < 0.25:
        return np.ones((size, size), np.bool_)
    rows, columns = np.ogrid[:size, :size]
    row, column = size * rng.uniform(0.4, 0.6, 2)
    inside = (rows - row) ** 2 + (columns - column) ** 2 < (size * rng.uniform(0.44, 0.62)) ** 2
    return np.asarray(inside, dtype=np.bool_)


def _camera(image: Field, rng: Generator) -> Field:
    """Blur, gamma and noise of a camera."""
    sharp = _blur(image, rng.uniform(0.0, 0.8)).clip(0.0, 1.0) ** rng.uniform(0.7, 1.4)
    return (sharp + rng.normal(0, rng.uniform(0.0, 0.04), image.shape)).astype(np.float32)


def _blur(image: Field, sigma: float) -> Field:
    if sigma < 0.2:
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.float32)
