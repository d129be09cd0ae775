"""stub painter"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sam2lora.datasets.hospitals import Look
from sam2lora.datasets.pairs import Bits, Pixels


@dataclass(frozen=True)
class Painted:
    image: Pixels
    vessels: Bits
    disc: Bits
    fov: Bits


def paint(look: Look, size: int, seed: int, index: int) -> Painted:
    rng = np.random.default_rng([seed, index])
    image = np.zeros((size, size, 3), np.float32)
    image[:] = look.retina
    vessels = np.zeros((size, size), np.uint8)
    for _ in range(12):
        x, y = size * 0.3, size * 0.5
        angle = rng.uniform(0, 2 * np.pi)
        for _ in range(40):
            angle += rng.normal(0, 0.15)
            nx, ny = x + np.cos(angle) * size / 40, y + np.sin(angle) * size / 40
            cv2.line(vessels, (int(x), int(y)), (int(nx), int(ny)), 1, int(rng.integers(1, 5)))
            x, y = nx, ny
    yy, xx = np.mgrid[:size, :size]
    fov = (xx - size / 2) ** 2 + (yy - size / 2) ** 2 < (0.48 * size) ** 2
    disc = (xx - size * 0.3) ** 2 + (yy - size / 2) ** 2 < (0.06 * size) ** 2
    image[disc] += 0.25
    image[vessels > 0] *= 0.7
    image += rng.normal(0, 0.03, image.shape)
    image[~fov] = 0
    return Painted((image.clip(0, 1) * 255).astype(np.uint8), (vessels > 0) & fov, disc & fov, fov)
