"""The field of view of a fundus camera, for sets that ship no mask of it."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sam2lora.datasets.pairs import Bits, Pixels

_WORKING_SIDE = 800  # larger images are measured at this size: the border is smooth, the pixel noise is not
_CORNER = 0.07  # side of a corner square, as a share of the image's side
_PRINT = 0.25  # share of that way beyond which a light pixel of a corner belongs to what a camera prints there
_RISE = 0.06  # share of the way from the border's level to the retina's at which the field of view begins
_POINTS, _TRIALS = 400, 600  # of an outline, and circles through three of them that are tried
_NEAR = 0.008  # of the radius: so far may a point of the outline lie from the circle
_OUTLINE, _ARC = 0.25, 0.25  # least share of the outline on the circle, and of the circle's directions that it covers
_INSIDE = 0.9  # least share of what is lit that lies within the circle; the rest is light that leaks
_BEYOND = 1.03  # of the radius: lit retina that an edge that is not quite round leaves outside
_CHORD = 0.8  # share of the circle's chord from which a straight end of the lit part is a cut of the picture
_SLANT, _DEPTH = 0.03, 0.1  # of the radius: how far a cut may slant, and how far inside the light is compared
_STEEP = 0.6  # share of the light inside that there is at a cut; a shadow is softer


class _Circle(NamedTuple):
    x: float
    y: float
    radius: float


def field_of_view(image: Pixels) -> Bits:
    """The field of view of ``image`` (H, W, 3) RGB, as (H, W) bool: its lit disc, or all where none stands out."""
    disc = lit_disc(image)
    return np.ones(image.shape[:2], np.bool_) if disc is None else disc


def lit_disc(image: Pixels) -> Bits | None:
    """The lit disc of a fundus photograph ``image`` (H, W, 3) RGB, as (H, W) bool; None where none stands out.

    The brightest channel (red, nearly always) is rid of grain and thresholded a little above the level of the black
    border, which the corners show (STARE's border is as light as DRIVE's darkest retina, so no fixed level serves);
    the largest component is kept and its holes are filled. Where enough of its outline lies on one circle, the disc is
    that circle, less straight cuts: retina in shadow is kept, and light that leaks beyond the edge is not. None for a
    picture without a dark border (a crop, a flat or a black one).
    """
    height, width = image.shape[:2]
    scale = min(1.0, _WORKING_SIDE / max(height, width))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    light = cv2.medianBlur(np.ascontiguousarray(small.max(axis=2)), 5)  # removes grain and leaves the edge in place
    threshold = _threshold(light)
    if threshold is None or not (light > threshold).any():
        return None
    lit = _largest(light > threshold)
    circle = _circle(lit)
    disc = lit if circle is None else _rounded(lit, circle, light.astype(np.float32) - threshold)
    if scale < 1:
        disc = cv2.resize(disc.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
    return np.asarray(disc, np.bool_)


def _threshold(light: NDArray[np.uint8]) -> float | None:
    """Between border and retina; None where there is no border.

    The lightest corner is left out, and so is what is much lighter than its corner: some cameras print marks there.
    """
    height, width = light.shape
    down, across = max(2, int(_CORNER * height)), max(2, int(_CORNER * width))
    rows, columns = (slice(down), slice(-down, None)), (slice(across), slice(-across, None))
    middle = light[height // 4 : height - height // 4, width // 4 : width - width // 4]
    retina = float(np.median(middle))
    border = sorted(_level(light[row, column], retina) for row in rows for column in columns)[2]
    return border + _RISE * (retina - border) if border < 0.7 * retina else None


def _level(corner: NDArray[np.uint8], retina: float) -> float:
    middle = float(np.median(corner))
    return float(np.percentile(corner[corner <= middle + _PRINT * max(0.0, retina - middle)], 95))


def _largest(lit: Bits) -> Bits:
    labels, _ = ndimage.label(lit)
    sizes = np.bincount(labels.ravel())[1:]
    return np.asarray(ndimage.binary_fill_holes(labels == 1 + int(np.argmax(sizes))), np.bool_)


def _circle(lit: Bits) -> _Circle | None:
    """The circle on which most of the outline of ``lit`` lies, or None where that is too little of either.

    Random sample consensus (Fischler and Bolles, 1981) with fixed draws, then least squares over the points it found.
    The edge of the image is no outline.
    """
    height, width = lit.shape
    outlines, _ = cv2.findContours(lit.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = np.concatenate(outlines)[:, 0].astype(np.float64)
    points = points[((points > 1) & (points < np.array([width - 2, height - 2]))).all(axis=1)]
    if len(points) < 3:
        return None
    points = points[:: max(1, len(points) // _POINTS)]
    drawn = points[np.random.default_rng(0).integers(len(points), size=(_TRIALS, 3))]
    circles = [circle for circle in map(_through, drawn) if circle is not None and _is_fit(circle, lit)]
    if not circles:
        return None
    circle = max(circles, key=lambda circle: np.count_nonzero(_near(points, circle)))
    near = _near(points, circle)
    for _ in range(3):
        refined = _through(points[near])
        if refined is None or not _is_fit(refined, lit):
            return None
        circle, near = refined, _near(points, refined)
    angles = np.arctan2(points[near, 1] - circle.y, points[near, 0] - circle.x)
    arc = np.unique((angles * 18 / np.pi).astype(int)).size / 36
    return circle if near.mean() >= _OUTLINE and arc >= _ARC and _inside(circle, lit) >= _INSIDE else None


def _through(points: NDArray[np.float64]) -> _Circle | None:
    """The circle of least squares through ``points`` (N, 2) (Kasa, 1976); None where they lie on a line."""
    terms = np.column_stack([2 * points, np.ones(len(points))])
    (x, y, rest), _, rank, _ = np.linalg.lstsq(terms, (points**2).sum(axis=1), rcond=None)
    squared = rest + x**2 + y**2
    return _Circle(float(x), float(y), float(np.sqrt(squared))) if rank == 3 and squared > 0 else None


def _is_fit(circle: _Circle, lit: Bits) -> bool:
    """Whether the circle is of the size of the lit part: no corner of it, and no line."""
    return bool(0.3 * np.sqrt(lit.sum()) < circle.radius < max(lit.shape))


def _inside(circle: _Circle, lit: Bits) -> float:
    rows, columns = np.nonzero(lit)
    return float(np.mean(np.hypot(columns - circle.x, rows - circle.y) <= _BEYOND * circle.radius))


def _near(points: NDArray[np.float64], circle: _Circle) -> Bits:
    away = np.hypot(points[:, 0] - circle.x, points[:, 1] - circle.y) - circle.radius
    return np.asarray(np.abs(away) < max(1.0, _NEAR * circle.radius), np.bool_)


def _rounded(lit: Bits, circle: _Circle, light: NDArray[np.float32]) -> Bits:
    """The circle and what is lit at its very edge, without what straight cuts of the picture take away.

    ``light``: (H, W), above the threshold. A cut takes as much of the chord as a shadow may, but it ends at once.
    """
    rows, columns = np.mgrid[: lit.shape[0], : lit.shape[1]]
    away = np.hypot(columns - circle.x, rows - circle.y)
    disc = (away <= circle.radius) | (lit & (away <= _BEYOND * circle.radius))
    inner, deeper = (max(2, round(share * circle.radius)) for share in (_SLANT, _SLANT + _DEPTH))
    for _ in range(4):  # from above; the picture is turned to have each of its sides there, and ends upright
        disc, lit, light = np.rot90(disc), np.rot90(lit), np.rot90(light)
        first = int(np.argmax(lit.any(axis=1)))
        if first + deeper < lit.shape[0] and _is_cut(lit, light, disc, first + inner, first + deeper):
            disc = disc & (lit | (np.arange(lit.shape[0]) >= first + inner)[:, None])
    return np.asarray(disc, np.bool_)


def _is_cut(lit: Bits, light: NDArray[np.float32], disc: Bits, inner: int, deeper: int) -> bool:
    ends = [float(np.median(light[row][lit[row]])) if lit[row].any() else 0.0 for row in (inner, deeper)]
    spans = np.count_nonzero(lit[inner]) >= _CHORD * np.count_nonzero(disc[inner])
    return bool(spans and ends[0] >= _STEEP * ends[1])
