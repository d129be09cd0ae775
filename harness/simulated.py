"""Simulated ablations: scores with known effects, and variances like those of real data.

    y[a, r, t, i] = level + effect[a] + image[t, i] + replicate[a, r] + image_arm[a, t, i] + residual[a, r, t, i]

An effect common to all arms of a replicate would cancel in every contrast and is left out; that of an image cancels too
and is there so that scores look like scores. Scores are not cut to [0, 1]: the effects would no longer be known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from harness.inference.cells import Cells, Contrast, Floats, Pair, Target
from harness.inference.power import ContrastNoise

LEVEL = 0.78
"""Mean score of an arm without effect."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What a study is drawn from, in units of the metric.

    ``effects``: by arm. ``replicates``: seeds and folds. ``images``: by target. The others are standard deviations:
    ``image``: of an image's own level; ``replicate``, ``seed``, ``fold``: of one arm's shift in a replicate (drawn for
    each, for each seed, for each fold); ``image_arm``: of one arm's shift on an image, in all replicates; ``residual``:
    of a single cell. A difference of two arms has sqrt(2) times as much. ``skew``: skewness of all of these but the
    image's, 0 for normal. ``per_patient``: consecutive images that are one patient's, and share the arm's shift.
    """

    effects: Mapping[str, float]
    replicates: tuple[Pair, ...]
    images: Mapping[str, int] = field(default_factory=lambda: {"cedar": 20, "willow": 20, "rowan": 20})
    image: float = 0.04
    replicate: float = 0.006 / math.sqrt(2.0)
    seed: float = 0.0
    fold: float = 0.0
    image_arm: float = 0.01
    residual: float = 0.015
    skew: float = 0.0
    per_patient: int = 1

    def effect(self, contrast: Contrast) -> float:
        """The true value of a contrast, on every target and overall."""
        return float(contrast.vector(list(self.effects)) @ np.array(list(self.effects.values())))

    def variances(self, contrast: Contrast) -> ContrastNoise:
        """The true variances of a contrast over all targets; with one image a patient only.

        The degrees of freedom of the images are those that a study will find on average with targets of equal size:
        Satterthwaite's estimate falls short of the n - T that equal variances are worth, the more the fewer images.
        """
        size = float((contrast.vector(list(self.effects)) ** 2).sum())
        free = float(sum(count - 1 for count in self.images.values()))
        weight = sum(1.0 / count for count in self.images.values()) / len(self.images) ** 2
        return ContrastNoise(
            replicate=size * (self.replicate**2 + self.residual**2 * weight),
            images=size * self.image_arm**2 * weight,
            residual=size * self.residual**2 * weight,
            seed=size * self.seed**2,
            fold=size * self.fold**2,
            df_images=free / (1.0 + 2.0 * (len(self.images) - 1) / (free + 2.0)),
        )


def simulate(truth: Truth, rng: np.random.Generator) -> Cells:
    """One study, all of whose trials completed."""
    drawn = scores(truth, 1, rng)
    targets = tuple(
        Target(name, values[0], np.array([f"{name}-{image // truth.per_patient:03d}" for image in range(count)]))
        for (name, count), values in zip(truth.images.items(), drawn, strict=True)
    )
    finished = np.ones((len(truth.effects), len(truth.replicates)), dtype=np.bool_)
    return Cells(tuple(truth.effects), truth.replicates, targets, finished)


def scores(truth: Truth, studies: int, rng: np.random.Generator) -> list[Floats]:
    """Per target (studies, arms, replicates, images)."""
    effects = np.array(list(truth.effects.values()))
    arms, count = len(effects), len(truth.replicates)
    shifts = truth.replicate * _noise((studies, arms, count), truth.skew, rng)
    for deviation, values in (
        (truth.seed, [pair.seed for pair in truth.replicates]), (truth.fold, [pair.fold for pair in truth.replicates])
    ):  # fmt: skip
        levels, codes = np.unique(values, return_inverse=True)
        shifts += deviation * _noise((studies, arms, len(levels)), truth.skew, rng)[..., codes]
    drawn = []
    for images in truth.images.values():
        patients = np.arange(images) // truth.per_patient
        image = truth.image * rng.standard_normal((studies, 1, 1, images))
        own = truth.image_arm * _noise((studies, arms, 1, int(patients.max()) + 1), truth.skew, rng)[..., patients]
        rest = truth.residual * _noise((studies, arms, count, images), truth.skew, rng)
        drawn.append(LEVEL + effects[:, None, None] + image + shifts[..., None] + own + rest)
    return drawn


def _noise(shape: tuple[int, ...], skew: float, rng: np.random.Generator) -> Floats:
    """Draws of mean 0 and variance 1: normal, or from a centred gamma distribution of skewness ``skew``."""
    if skew == 0.0:
        return rng.standard_normal(shape)
    form = 4.0 / skew**2
    drawn: Floats = math.copysign(1.0, skew) * (rng.standard_gamma(form, shape) - form) / math.sqrt(form)
    return drawn
