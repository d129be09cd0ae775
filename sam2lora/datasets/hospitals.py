"""The cameras, patients and habits of the procedural hospitals: numbers only.

``DEMO_HOSPITALS`` are for examples, tests and benchmarks; ``PRETRAINING_HOSPITALS`` are kept apart from them, so that
weights that were pretrained on these have not seen those.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Hospital = Literal[
    "alder", "birch", "cedar", "dogwood", "elm", "fir", "ginkgo", "hazel", "ironwood", "juniper", "katsura", "larch"
]
Colour = tuple[float, float, float]  # RGB, 0 to 1


@dataclass(frozen=True)
class Look:
    """What makes the photographs of one hospital alike.

    Eye: ``retina`` and ``disc`` are colours; ``calibre`` is the width of the thickest vein in radii of the field of
    view; ``density`` scales the number of branches and ``tortuosity`` their bends; ``contrast`` scales how much light
    a vessel absorbs, ``reflex`` how much its ridge reflects; ``tessellation`` shows the choroid. Camera: ``shape`` of
    the field of view, ``view`` (what is at its centre), ``zoom``, ``border`` (colour of the frame), ``vignette``,
    ``glare`` (a light rim), ``haze``, ``blur`` (pixels at 384), ``noise`` (standard deviation), ``jpeg`` (quality).
    Patients: ``ill`` is the share of eyes with findings, of which ``exudates``, ``haemorrhages`` and ``drusen`` are
    the mean counts; ``spread`` is how much exposure and tint vary between patients.
    """

    retina: Colour
    disc: Colour
    calibre: float = 0.030
    density: float = 1.0
    tortuosity: float = 1.0
    contrast: float = 1.0
    reflex: float = 0.0
    tessellation: float = 0.0
    shape: Literal["circle", "cut", "wide", "notch"] = "circle"
    view: Literal["macula", "between", "disc"] = "macula"
    zoom: float = 1.0
    border: Colour = (0.0, 0.0, 0.0)
    vignette: float = 0.35
    glare: float = 0.0
    haze: float = 0.0
    blur: float = 0.6
    noise: float = 0.012
    jpeg: int = 92
    ill: float = 0.3
    exudates: float = 0.0
    haemorrhages: float = 0.0
    drusen: float = 0.0
    spread: float = 0.06


HOSPITALS: dict[Hospital, Look] = {
    # A screening programme: orange, even light, healthy eyes.
    "alder": Look(retina=(0.80, 0.46, 0.22), disc=(0.98, 0.86, 0.56), shape="cut", vignette=0.30, reflex=0.25),
    # An old film camera: pale, greenish frame, strong findings, coarse grain.
    "birch": Look(
        retina=(0.84, 0.62, 0.36),
        disc=(0.98, 0.93, 0.72),
        shape="notch",
        border=(0.05, 0.07, 0.05),
        calibre=0.034,
        contrast=0.8,
        vignette=0.2,
        noise=0.028,
        blur=0.9,
        ill=0.6,
        exudates=9,
        haemorrhages=6,
        jpeg=85,
    ),
    # Children, seen around the disc: deep red, wide vessels with a bright ridge, tessellated.
    "cedar": Look(
        retina=(0.66, 0.24, 0.10),
        disc=(0.98, 0.78, 0.42),
        view="disc",
        calibre=0.040,
        density=0.8,
        reflex=0.75,
        tessellation=0.55,
        vignette=0.55,
        glare=0.25,
        ill=0.0,
        contrast=0.9,
    ),
    # A modern high-resolution camera: sharp, dark, dense fine vessels, diabetic patients.
    "dogwood": Look(
        retina=(0.60, 0.29, 0.14),
        disc=(0.93, 0.75, 0.45),
        calibre=0.027,
        density=1.5,
        blur=0.35,
        noise=0.006,
        vignette=0.45,
        contrast=1.1,
        ill=0.7,
        exudates=8,
        haemorrhages=9,
        reflex=0.35,
    ),
    # A glaucoma clinic: bluish, hazy media, pale large discs, the disc off centre.
    "elm": Look(
        retina=(0.58, 0.38, 0.32),
        disc=(0.95, 0.90, 0.80),
        view="between",
        shape="wide",
        haze=0.22,
        blur=1.1,
        contrast=0.75,
        calibre=0.028,
        vignette=0.25,
        glare=0.45,
        ill=0.4,
        drusen=14,
        spread=0.09,
    ),
    # A hand-held camera: brown, uneven light, noise and strong compression, winding vessels.
    "fir": Look(
        retina=(0.50, 0.30, 0.16),
        disc=(0.86, 0.74, 0.48),
        zoom=1.08,
        tortuosity=1.7,
        vignette=0.7,
        noise=0.034,
        blur=1.0,
        jpeg=55,
        tessellation=0.25,
        contrast=0.9,
        ill=0.5,
        haemorrhages=7,
        spread=0.12,
        shape="circle",
    ),
    "ginkgo": Look(
        retina=(0.82, 0.60, 0.14),
        disc=(1.00, 0.92, 0.50),
        shape="cut",
        calibre=0.032,
        contrast=0.95,
        ill=0.5,
        exudates=6,
        haemorrhages=4,
        noise=0.018,
        vignette=0.25,
        jpeg=80,
    ),
    "hazel": Look(
        retina=(0.62, 0.34, 0.24),
        disc=(0.92, 0.80, 0.62),
        view="between",
        calibre=0.027,
        density=1.2,
        reflex=0.4,
        tessellation=0.3,
        blur=0.5,
        ill=0.4,
        drusen=12,
        shape="wide",
        glare=0.2,
    ),
    "ironwood": Look(
        retina=(0.88, 0.30, 0.09),
        disc=(1.00, 0.74, 0.34),
        view="disc",
        zoom=1.1,
        calibre=0.037,
        reflex=0.55,
        tessellation=0.4,
        vignette=0.6,
        contrast=0.85,
        noise=0.016,
        ill=0.2,
        exudates=4,
    ),
    "juniper": Look(
        retina=(0.70, 0.56, 0.40),
        disc=(0.97, 0.94, 0.80),
        border=(0.04, 0.05, 0.05),
        shape="notch",
        haze=0.12,
        contrast=0.8,
        noise=0.024,
        blur=0.9,
        ill=0.5,
        haemorrhages=8,
        density=0.85,
        tortuosity=1.4,
    ),
    "katsura": Look(
        retina=(0.46, 0.27, 0.22),
        disc=(0.85, 0.70, 0.52),
        zoom=0.85,
        calibre=0.025,
        density=1.25,
        blur=0.4,
        noise=0.01,
        vignette=0.5,
        ill=0.5,
        exudates=7,
        haemorrhages=5,
        drusen=6,
    ),
    "larch": Look(
        retina=(0.58, 0.42, 0.24),
        disc=(0.90, 0.84, 0.60),
        tortuosity=1.6,
        vignette=0.65,
        noise=0.030,
        jpeg=60,
        blur=1.1,
        calibre=0.033,
        glare=0.35,
        ill=0.4,
        drusen=10,
        spread=0.12,
    ),
}

DEMO_HOSPITALS: tuple[Hospital, ...] = ("alder", "birch", "cedar", "dogwood", "elm", "fir")
PRETRAINING_HOSPITALS: tuple[Hospital, ...] = ("ginkgo", "hazel", "ironwood", "juniper", "katsura", "larch")
