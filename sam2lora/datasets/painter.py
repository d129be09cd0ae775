"""A fundus photograph as a program: eye, camera, and exactly known vessels and disc.

Light is reflected by retina, disc and findings and absorbed by vessels (Beer-Lambert, green most), then passes a
camera: vignette, haze, blur, noise, JPEG. One image depends on the hospital, the seed and the index alone.
"""

from __future__ import annotations

import io
import math
import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sam2lora.datasets.hospitals import HOSPITALS, Hospital, Look
from sam2lora.datasets.pairs import Bits, Pixels
from sam2lora.datasets.vasculature import Anatomy, Branch, grow

Layer = NDArray[np.float32]

_FINE = 3  # vessels are drawn this many times finer and averaged
_RADIUS = 0.478  # of the field of view, as a share of the side
_ABSORPTION = np.array([[0.42, 1.20, 1.00], [0.26, 0.95, 0.95]], np.float32)  # RGB, of veins and of arteries


@dataclass(frozen=True)
class Painted:
    """``image`` (S, S, 3) uint8 RGB; ``vessels``, ``disc``, ``cup`` and ``fov`` (S, S) bool, the others within ``fov``.

    The disc contains the cup.
    """

    image: Pixels
    vessels: Bits
    disc: Bits
    cup: Bits
    fov: Bits


@dataclass(frozen=True)
class _Grid:
    """Pixel centres of a square image in units of the field of view's radius; ``temple`` is +1 or -1 along x."""

    size: int
    temple: int
    x: Layer
    y: Layer

    @property
    def scale(self) -> float:
        """Pixels per unit."""
        return _RADIUS * self.size

    def distance(self, place: tuple[float, float]) -> Layer:
        return np.asarray(np.hypot(self.x - np.float32(place[0]), self.y - np.float32(place[1])), np.float32)

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """Continuous pixel coordinates, in which the image covers [0, S] x [0, S]."""
        return self.size / 2 + self.temple * x * self.scale, self.size / 2 + y * self.scale


def paint(hospital: Hospital, size: int, seed: int, index: int) -> Painted:
    """Image ``index`` of a hospital at ``size`` x ``size`` pixels. Even indices are left eyes, odd ones right eyes.

    The two eyes of a patient share exposure and tint. A vessel pixel is one that vessels cover by half or more.
    """
    look, place = HOSPITALS[hospital], zlib.crc32(hospital.encode())
    patient = np.random.default_rng([place, seed, index // 2, 0])
    rng = np.random.default_rng([place, seed, index // 2, 1 + index % 2])
    grid = _grid(size, temple=-1 if index % 2 else 1)
    anatomy = _anatomy(look, rng)
    cover, depth, artery, ridge = _draw(grow(look, anatomy, rng), look, grid)
    fov = _field(look.shape, grid)
    border = _disc_distance(grid, anatomy)
    light, cup = _eye(look, grid, anatomy, rng)
    light *= np.exp(-look.contrast * depth[..., None] * (_ABSORPTION[0] + artery[..., None] * _absorption_step()))
    light *= 1 + look.reflex * ridge[..., None] * np.array([0.5, 0.9, 0.6], np.float32)
    image = _camera(light, fov, look, grid, patient, rng)
    return Painted(image, (cover >= 0.5) & fov, (border < 1) & fov, (border < cup) & fov, fov)


def _absorption_step() -> NDArray[np.float32]:
    return np.asarray(_ABSORPTION[1] - _ABSORPTION[0], np.float32)


def _grid(size: int, temple: int) -> _Grid:
    line = ((np.arange(size, dtype=np.float32) + 0.5) - size / 2) / np.float32(_RADIUS * size)
    x, y = np.meshgrid(line * temple, line)
    return _Grid(size, temple, np.ascontiguousarray(x), np.ascontiguousarray(y))


def _anatomy(look: Look, rng: np.random.Generator) -> Anatomy:
    """Disc and fovea lie 15.5 degrees apart; 45 degrees fill the field of view at ``zoom`` 1."""
    apart = 0.68 * look.zoom * rng.uniform(0.94, 1.06)
    middle = {"macula": 0.0, "between": 0.5, "disc": 1.0}[look.view]
    x, y = rng.normal(0, 0.035, 2)
    fovea = (x + middle * apart, y + 0.04)
    disc = (fovea[0] - apart, fovea[1] - rng.uniform(0.02, 0.12))
    return Anatomy(disc, fovea, 0.125 * look.zoom * rng.uniform(0.9, 1.12))


def _draw(branches: list[Branch], look: Look, grid: _Grid) -> tuple[Layer, Layer, Layer, Layer]:
    """Cover, optical depth, share of artery and ridge of the vessels, each (S, S) in [0, 1]."""
    side = grid.size * _FINE
    canvas = np.zeros((side, side, 3), np.uint8)
    ridge = np.zeros((side, side), np.uint8)
    for branch in branches:
        points = [grid.pixel(x, y) for x, y in branch.points]
        corners = [(round(16 * (_FINE * x - 0.5)), round(16 * (_FINE * y - 0.5))) for x, y in points]
        for start, end, calibre in zip(corners, corners[1:], branch.calibres[1:], strict=False):
            width = calibre * grid.scale * _FINE
            depth = round(255 * min(1.0, 0.20 + 0.80 * (calibre / look.calibre) ** 0.8))
            cv2.line(canvas, start, end, (depth, 255 * branch.artery, 255), max(1, round(width)), cv2.LINE_8, 4)
            if width > 9:
                cv2.line(ridge, start, end, 255, max(1, round(width / 4)), cv2.LINE_8, 4)
    small = cv2.resize(canvas, (grid.size, grid.size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    lines = cv2.resize(ridge, (grid.size, grid.size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return small[..., 2], small[..., 0], small[..., 1], lines


def _disc_distance(grid: _Grid, anatomy: Anatomy) -> Layer:
    """1 on the border of the disc, an upright ellipse."""
    x, y = anatomy.disc
    across = (grid.x - np.float32(x)) / np.float32(0.92)
    return np.asarray(np.hypot(across, grid.y - np.float32(y)) / np.float32(anatomy.radius), np.float32)


def _clouds(grid: _Grid, cells: float, rng: np.random.Generator) -> Layer:
    """Smooth noise of unit variance with ``cells`` cells per side."""
    coarse = rng.normal(0, 1, (math.ceil(cells) + 3, math.ceil(cells) + 3)).astype(np.float32)
    step = cells / grid.size
    line = (np.arange(grid.size, dtype=np.float32) + 0.5) * np.float32(step) + 1
    x, y = np.meshgrid(line, line)
    return np.asarray(1.4 * cv2.remap(coarse, x, y, cv2.INTER_CUBIC), np.float32)


def _eye(look: Look, grid: _Grid, anatomy: Anatomy, rng: np.random.Generator) -> tuple[Layer, float]:
    """The reflected light of retina, fovea, disc and findings, (S, S, 3), before vessels absorb; and the cup's radius.

    The radius is a share of the disc's (the cup-to-disc ratio).
    """
    light = np.ones((grid.size, grid.size, 3), np.float32) * np.array(look.retina, np.float32)
    mottle = 0.035 * _clouds(grid, 5, rng) + 0.025 * _clouds(grid, 17, rng) + 0.02 * _clouds(grid, 60, rng)
    light *= (1 + mottle)[..., None]
    if look.tessellation:
        streaks = np.abs(_clouds(grid, 13, rng) + 0.5 * _clouds(grid, 27, rng))
        choroid = look.tessellation * (0.32 * np.exp(-3 * streaks) - 0.1)
        light *= 1 + choroid[..., None] * np.array([0.8, 1.3, 1], np.float32)
    from_fovea = grid.distance(anatomy.fovea) / math.dist(anatomy.disc, anatomy.fovea)
    macula = 0.30 * np.exp(-((from_fovea / 0.42) ** 2)) + 0.22 * np.exp(-((from_fovea / 0.13) ** 2))
    light *= 1 - macula[..., None] * np.array([0.65, 1.0, 1.1], np.float32)
    if rng.random() < look.ill:
        _findings(light, look, grid, anatomy, rng)
    ratio = rng.uniform(0.35, 0.6)
    return _with_disc(light, ratio, look, grid, anatomy, rng), ratio


def _with_disc(
    light: Layer, ratio: float, look: Look, grid: _Grid, anatomy: Anatomy, rng: np.random.Generator
) -> Layer:
    border = _disc_distance(grid, anatomy)
    sharp = 22.0
    inside = 1 / (1 + np.exp(np.clip(sharp * (border - 1), -30, 30)))
    cup = 1 / (1 + np.exp(np.clip(sharp * (border / ratio - 1), -30, 30)))
    halo = 0.12 * np.exp(-((np.maximum(border - 1, 0) / 0.5) ** 2))
    colour = np.array(look.disc, np.float32) * np.float32(rng.uniform(0.88, 1.0))
    white = np.array([1.0, 0.97, 0.88], np.float32)
    rim = colour * (0.9 + 0.05 * _clouds(grid, 30, rng))[..., None]
    disc = rim + 0.55 * cup[..., None] * (white - rim)
    return np.asarray(light * (1 + halo - inside)[..., None] + disc * inside[..., None], np.float32)


def _findings(light: Layer, look: Look, grid: _Grid, anatomy: Anatomy, rng: np.random.Generator) -> None:
    """Paint exudates (yellow, sharp, in clusters), haemorrhages (dark red) and drusen (pale, soft) into ``light``."""
    yellow, blood, pale = (0.98, 0.86, 0.45), (0.34, 0.06, 0.04), (0.92, 0.78, 0.50)
    for _ in range(int(rng.poisson(look.exudates))):
        middle = _around(anatomy.fovea, 0.42, rng)
        for _ in range(int(rng.integers(2, 9))):
            _blob(light, grid, _around(middle, 0.05, rng), rng.uniform(0.006, 0.017), yellow, 0.75, 0.7, rng)
    for _ in range(int(rng.poisson(look.haemorrhages))):
        _blob(light, grid, _around(anatomy.fovea, 0.5, rng), rng.uniform(0.010, 0.040), blood, 0.7, 0.8, rng)
    for _ in range(int(rng.poisson(3 * look.drusen))):
        _blob(light, grid, _around(anatomy.fovea, 0.22, rng), rng.uniform(0.008, 0.022), pale, 0.4, 1.6, rng)


def _around(place: tuple[float, float], spread: float, rng: np.random.Generator) -> tuple[float, float]:
    x, y = rng.normal(place, spread)
    return float(x), float(y)


def _blob(
    light: Layer,
    grid: _Grid,
    place: tuple[float, float],
    radius: float,
    colour: tuple[float, float, float],
    strength: float,
    softness: float,
    rng: np.random.Generator,
) -> None:
    """Blend an irregular spot of ``colour`` into the few pixels of ``light`` that it reaches."""
    across, down = grid.pixel(*place)
    reach = math.ceil(2.6 * radius * grid.scale) + 2
    left, top = max(0, int(across) - reach), max(0, int(down) - reach)
    window = (slice(top, max(top, int(down) + reach)), slice(left, max(left, int(across) + reach)))
    x, y = grid.x[window] - np.float32(place[0]), grid.y[window] - np.float32(place[1])
    angle = np.arctan2(y, x)
    waves = sum(rng.uniform(0.03, 0.14) * np.cos(order * angle + rng.uniform(0, 2 * math.pi)) for order in (2, 3, 5))
    share = strength / (1 + np.exp(np.clip((np.hypot(x, y) / (radius * (1 + waves)) - 1) * 6 / softness, -30, 30)))
    light[window] += share[..., None].astype(np.float32) * (np.array(colour, np.float32) - light[window])


def _field(shape: str, grid: _Grid) -> Bits:
    """The field of view: a circle, one that is cut above and below, a wide one, or one with a notch."""
    radius = np.hypot(grid.x, grid.y)
    if shape == "cut":
        return np.asarray((radius < 1) & (np.abs(grid.y) < 0.86), np.bool_)
    if shape == "wide":
        return np.asarray((radius < 1.16) & (np.abs(grid.x) < 1.03) & (np.abs(grid.y) < 0.90), np.bool_)
    if shape == "notch":
        tab = (np.abs(grid.x * grid.temple - 0.70) < 0.045) & (np.abs(grid.y + 0.74) < 0.06)
        return np.asarray((radius < 1) | tab, np.bool_)
    return np.asarray(radius < 1, np.bool_)


def _camera(
    light: Layer, fov: Bits, look: Look, grid: _Grid, patient: np.random.Generator, rng: np.random.Generator
) -> Pixels:
    """Expose, blur, add noise, frame and compress: (S, S, 3) uint8."""
    exposure = math.exp(patient.normal(0, look.spread)) * math.exp(rng.normal(0, look.spread / 2))
    tint = np.exp(patient.normal(0, look.spread / 2, 3)).astype(np.float32)
    off = rng.normal(0, 0.12, 2)
    falloff = 1 - look.vignette * (grid.distance((float(off[0]), float(off[1]))) ** 2) * 0.75
    light = light * (np.float32(exposure) * np.clip(falloff, 0.12, 1))[..., None] * tint
    if look.glare:
        angle, width = rng.uniform(0, 2 * math.pi), rng.uniform(0.5, 0.9)
        rim = np.exp(-(((1.15 - grid.distance((0, 0))).clip(0) / 0.13) ** 2))
        part = np.exp(-((np.angle(np.exp(1j * (np.arctan2(grid.y, grid.x) - angle))) / width) ** 2))
        light = light + look.glare * (rim * part)[..., None].astype(np.float32) * np.array([1.0, 0.8, 0.55], np.float32)
    light = light * (1 - look.haze) + look.haze * np.array([0.62, 0.56, 0.55], np.float32)
    light = cv2.GaussianBlur(light.astype(np.float32), (0, 0), look.blur * grid.size / 384)
    grain = rng.standard_normal(light.shape, dtype=np.float32)
    light += look.noise * (0.5 * grain + 0.9 * cv2.GaussianBlur(grain, (0, 0), 0.8))
    edge = cv2.GaussianBlur(fov.astype(np.float32), (0, 0), 0.8 * grid.size / 384)[..., None]
    frame = np.array(look.border, np.float32) + 0.25 * look.noise * grain
    light = light * edge + frame * (1 - edge)
    pixels = (255 * np.clip(light, 0, 1)).round().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=look.jpeg)
    return np.asarray(Image.open(file).convert("RGB"))
