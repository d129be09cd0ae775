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
import numpy.typing as npt

from harness.stats.power import ContrastNoise
from harness.stats.scores import Cells, Contrast, Floats, Pair, Target

LEVEL = 0.78
"""Mean score of an arm without effect."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The distribution that a study is drawn from, in units of the metric.

    ``effects``: by arm. ``replicates``: seeds and folds. ``images``: by target. The others are standard deviations:
    ``image``: of an image's own level; ``replicate``, ``seed``, ``fold``: of one arm's shift in a replicate (drawn for
    each, for each seed, for each fold); ``image_arm``: of one arm's shift on an image, in all replicates; ``residual``:
    of a single cell. A difference of two arms has sqrt(2) times as much. ``skew``: skewness of all of these but the
    image's, 0 for normal. ``factors``: by arm, what all of them but the image's are multiplied by, 1 where not named.
    ``per_patient``: consecutive images that are one patient's, and share the arm's shift; patient after patient where
    several numbers are given, which begin anew until the images are used up. ``pool``: targets of one length that show
    the same patients, who share image and arm's shift. ``failing``: by arm, the chance that a run fails, 0 where not
    named. ``collapsing``: the chance that a run collapses, of which every score is ``collapse`` less.
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
    factors: Mapping[str, float] = field(default_factory=dict)
    per_patient: int | tuple[int, ...] = 1
    pool: frozenset[str] = frozenset()
    failing: Mapping[str, float] = field(default_factory=dict)
    collapsing: Mapping[str, float] = field(default_factory=dict)
    collapse: float = 0.0

    def effect(self, contrast: Contrast) -> float:
        """The true value of a contrast, on every target and overall, over all runs, those that collapse included."""
        means = [gain - self.collapse * self.collapsing.get(arm, 0.0) for arm, gain in self.effects.items()]
        return float(contrast.vector(list(self.effects)) @ np.array(means))

    def variances(self, contrast: Contrast) -> ContrastNoise:
        """The true variances of a contrast over all targets; with one image a patient, none in two targets, only.

        The degrees of freedom of the images are those that a study will find on average with targets of equal size:
        Satterthwaite's estimate falls short of what equal variances are worth, the more the fewer images.
        """
        factors = np.array([self.factors.get(arm, 1.0) for arm in self.effects])
        size = float(((contrast.vector(list(self.effects)) * factors) ** 2).sum())
        each = np.array([1.0 / count for count in self.images.values()])
        free = float(each.sum() ** 2 / (each**3 / (1.0 - each)).sum())
        weight = sum(1.0 / count for count in self.images.values()) / len(self.images) ** 2
        return ContrastNoise(
            replicate=size * (self.replicate**2 + self.residual**2 * weight),
            images=size * self.image_arm**2 * weight,
            residual=size * self.residual**2 * weight,
            seed=size * self.seed**2,
            fold=size * self.fold**2,
            df_images=free / (1.0 + 2.0 * (len(self.images) - 1) / (free + 2.0)),
        )

    def patients(self, target: str) -> npt.NDArray[np.intp]:
        """(images,): the number of the patient that an image is of."""
        sizes = (self.per_patient,) if isinstance(self.per_patient, int) else self.per_patient
        count = self.images[target]
        numbers = np.repeat(np.arange(count), np.resize(sizes, count))
        return numbers[:count]


def simulate(truth: Truth, rng: np.random.Generator) -> Cells:
    """One study; a run that failed has no scores."""
    drawn = scores(truth, 1, rng)
    lost = np.array([truth.failing.get(arm, 0.0) for arm in truth.effects])
    finished = np.ones((len(lost), len(truth.replicates)), dtype=np.bool_)
    if lost.any():
        finished = rng.random(finished.shape) >= lost[:, None]
    targets = tuple(
        Target(
            name,
            np.where(finished[:, :, None], values[0], math.nan),
            np.array([f"{'pool' if name in truth.pool else name}-{patient:03d}" for patient in truth.patients(name)]),
            frozenset({"pool" if name in truth.pool else name}),
        )
        for name, values in zip(truth.images, drawn, strict=True)
    )
    return Cells(tuple(truth.effects), truth.replicates, targets, finished)


def scores(truth: Truth, studies: int, rng: np.random.Generator) -> list[Floats]:
    """Per target (studies, arms, replicates, images), as if no run failed."""
    effects = np.array(list(truth.effects.values()))
    arms, count = len(effects), len(truth.replicates)
    shifts = truth.replicate * _noise((studies, arms, count), truth.skew, rng)
    for deviation, values in (
        (truth.seed, [pair.seed for pair in truth.replicates]), (truth.fold, [pair.fold for pair in truth.replicates])
    ):  # fmt: skip
        levels, codes = np.unique(values, return_inverse=True)
        shifts += deviation * _noise((studies, arms, len(levels)), truth.skew, rng)[..., codes]
    factors = np.array([truth.factors.get(arm, 1.0) for arm in truth.effects])[:, None, None]
    gains = np.broadcast_to(effects[:, None], shifts.shape)
    if truth.collapsing:
        chances = np.array([truth.collapsing.get(arm, 0.0) for arm in truth.effects])[:, None]
        gains = gains - truth.collapse * (rng.random(shifts.shape) < chances)
    drawn, pooled = [], {}
    for name, images in truth.images.items():
        patients = truth.patients(name)
        where = "pool" if name in truth.pool else name
        if where not in pooled:
            image = truth.image * rng.standard_normal((studies, 1, 1, images))
            own = truth.image_arm * _noise((studies, arms, 1, int(patients.max()) + 1), truth.skew, rng)[..., patients]
            pooled[where] = image, own
        image, own = pooled[where]
        rest = truth.residual * _noise((studies, arms, count, images), truth.skew, rng)
        drawn.append(LEVEL + gains[..., None] + image + factors * (shifts[..., None] + own + rest))
    return drawn


def _noise(shape: tuple[int, ...], skew: float, rng: np.random.Generator) -> Floats:
    """Draws of mean 0 and variance 1: normal, or from a centred gamma distribution of skewness ``skew``."""
    if skew == 0.0:
        return rng.standard_normal(shape)
    form = 4.0 / skew**2
    drawn: Floats = math.copysign(1.0, skew) * (rng.standard_gamma(form, shape) - form) / math.sqrt(form)
    return drawn
