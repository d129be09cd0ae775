"""``python -m benchmarks.error_rates``: how often verdicts are wrong, on simulated studies whose truth is known.

Each scenario draws studies of three loss components (a full factorial of seven arms) without an effect. Of each the
three main effects are estimated as a report does it, and judged as one family, with the error that a study's first plan
makes, 4 %: what is left of the 5 % is for growing it.

- *matters*: share of studies that tell any of the three from 0 (all are wrong; 4 % promised);
- *does not matter*: share of those that call any of the three small, in studies whose three effects equal the smallest
  of interest, which is set to five standard errors, where a study without effects would often be called so rightly
  (4 % promised);
- *covers*: share of 95 % intervals that hold the truth; beside it the pigeonhole bootstrap's, and that of one t
  quantile with Satterthwaite's degrees of freedom (with the share of studies that it would call *matters*);
- *uncapped*, *apart*: *matters*, were the degrees of freedom over unequal targets not capped, and were patients of two
  targets taken for others;
- *sign flip*: share of contrasts without effect that the sign-flip test calls at 5 %;
- *found*: share of planted effects that are found at the level Holm guarantees (4 % / 3), where 80 % were promised from
  the true variances on these very replicates; *equivalent*: the same for an effect of 0 and a smallest effect of
  interest chosen to give 80 %; *found unshared*: as *found*, had the promise taken replicates on one fold for
  independent.

An effect shifts every score of an arm alike, so the same draws serve all: the estimates are shifted, not drawn again.
Then: interim looks, and what a promise is worth that a study makes from its own variances; ranks: how often some of
two equal arms is ranked above the other (5 % promised), where Friedman's test over data sets calls them different;
what is said of effects that are small or differ by target; which pairs of components are said to depend on each other;
and components whose runs collapse now and then, of which no promise is made.
Ranges are 95 % Wilson intervals.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit
from scipy.stats import friedmanchisquare

from benchmarks.machine import machine, save
from harness.simulation.scores import Truth, scores, simulate
from harness.stats.bootstrap import pigeonhole
from harness.stats.complete_cases import complete_cases
from harness.stats.crossed_variance import Parts, clusters, crossed, per_patient, satterthwaite, target_mean
from harness.stats.interplay import interplays, pairings
from harness.stats.multiplicity import adjust
from harness.stats.permutation import sign_flip
from harness.stats.power import (
    GOAL,
    ContrastNoise,
    decided_by,
    detectable,
    equivalence_power,
    exaggeration,
    minimum_detectable,
    more_needed,
)
from harness.stats.refusal import Refused
from harness.stats.scores import FOLDS, Contrast, Floats, Pair, continued
from harness.stats.sequential import Looks, over_looks, schedule
from harness.stats.shapley import main_effect
from harness.stats.verdicts import PerTest, kinds

ALPHA = 0.05
FIRST = Looks().planned((3,)).errors[0]
"""The error of a study that is looked at once, when its replicates have ended; the rest is for those that grow."""
COMPONENTS = ("bce", "dice", "tversky")
ARMS = ("bce", "dice", "tversky", "bce+dice", "bce+tversky", "dice+tversky", "bce+dice+tversky")
DRAWS = 499
"""Resamples of a bootstrap here: its interval's ends have noise of their own, the average coverage hardly any."""


def plain(count: int) -> tuple[Pair, ...]:
    """Replicates with a seed and a fold of their own."""
    return tuple(Pair(k, k) for k in range(count))


def turns(count: int) -> tuple[Pair, ...]:
    """As `harness.experiments.replicates.replicates` has them: seed k on fold k mod 5."""
    return tuple(Pair(k, k % FOLDS) for k in range(count))


def grid(seeds: int, folds: int) -> tuple[Pair, ...]:
    """Every seed with every fold."""
    return tuple(Pair(seed, fold) for seed in range(seeds) for fold in range(folds))


FAMILY = tuple(main_effect(component, {frozenset(arm.split("+")): arm for arm in ARMS}) for component in COMPONENTS)
NINE = (*FAMILY, *(Contrast(f"full over {arm}", {arm: -1.0, ARMS[-1]: 1.0}) for arm in ARMS[:-1]))
"""The main effects, and what the full arm gains on each of the others."""


@dataclass(frozen=True)
class Scenario:
    """What studies are drawn from, and the family of contrasts that is judged."""

    truth: Truth
    family: tuple[Contrast, ...] = FAMILY

    @property
    def level(self) -> float:
        """That of one contrast of the family, which Holm does not fall below."""
        return FIRST / len(self.family)


def scenario(replicates: tuple[Pair, ...], family: tuple[Contrast, ...] = FAMILY, **settings: Any) -> Scenario:
    """No component has an effect."""
    return Scenario(Truth(effects=dict.fromkeys(ARMS, 0.0), replicates=replicates, **settings), family)


HALF: Mapping[str, Any] = {"replicate": 0.003, "fold": 0.003}
"""The replicates' variance as it is by default, half of it the fold's: what replicates on one fold have in common."""
FOLDED: Mapping[str, Any] = {"replicate": 0.001, "fold": 0.02, "image_arm": 0.003}
SEEDS: Mapping[str, Any] = {"replicate": 0.02, "image_arm": 0.003}
IMAGES: Mapping[str, Any] = {"replicate": 0.001, "image_arm": 0.04}
FEW = {"cedar": 5, "willow": 5}
UNEQUAL = {"cedar": 5, "willow": 28, "rowan": 200}
TWELVE_EACH = {"cedar": 12, "willow": 12, "rowan": 12}
ONE_TO_SIX = (1, 6, 2, 3)
TWICE = frozenset({"cedar", "willow"})
UNLIKE = {"bce": 4.0, "dice": 2.0, "bce+dice": 0.5}
UNSTEADY = {"bce": 4.0}
SCENARIOS: Mapping[str, Scenario] = {
    "3 replicates": scenario(plain(3)),
    "5 replicates": scenario(plain(5)),
    "10 replicates": scenario(plain(10)),
    "3, family of nine": scenario(plain(3), NINE),
    "5, family of nine": scenario(plain(5), NINE),
    "3, replicates dominate": scenario(plain(3), replicate=0.02, image_arm=0.003),
    "5, replicates dominate": scenario(plain(5), replicate=0.02, image_arm=0.003),
    "3, images dominate": scenario(plain(3), replicate=0.001, image_arm=0.04),
    "5, images dominate": scenario(plain(5), replicate=0.001, image_arm=0.04),
    "3, residual alone": scenario(plain(3), replicate=0.0, image_arm=0.0),
    "5, residual alone": scenario(plain(5), replicate=0.0, image_arm=0.0),
    "3, skewness -2": scenario(plain(3), skew=-2.0),
    "5, skewness -2": scenario(plain(5), skew=-2.0),
    "5, 2 x 5 images": scenario(plain(5), images=FEW),
    "10, 2 x 3 images, these dominate": scenario(
        plain(10), images={"cedar": 3, "willow": 3}, replicate=0.001, residual=0.03
    ),
    "5, 2 images a patient": scenario(plain(5), per_patient=2),
    "5, 2 patients beside 60, these dominate": scenario(plain(5), images={"cedar": 2, "rowan": 60}, **IMAGES),
    "5, 5, 28 and 200 images, these dominate": scenario(plain(5), images=UNEQUAL, **IMAGES),
    "5, 1 to 6 images a patient": scenario(plain(5), images=TWELVE_EACH, per_patient=ONE_TO_SIX),
    "5, 1 to 6 images a patient, these dominate": scenario(
        plain(5), images=TWELVE_EACH, per_patient=ONE_TO_SIX, **IMAGES
    ),
    "5, the same patients in 2 of 3 targets": scenario(plain(5), pool=TWICE),
    "5, the same patients in 2 of 3 targets, images dominate": scenario(plain(5), pool=TWICE, **IMAGES),
    "5, arms that vary unlike": scenario(plain(5), factors=UNLIKE),
    "6 in turn on 5 folds": scenario(turns(6)),
    "7 in turn on 5 folds": scenario(turns(7)),
    "8 in turn on 5 folds": scenario(turns(8)),
    "6 in turn, folds dominate": scenario(turns(6), **FOLDED),
    "7 in turn, folds dominate": scenario(turns(7), **FOLDED),
    "8 in turn, folds dominate": scenario(turns(8), **FOLDED),
    "7 in turn, a run in 20 fails": scenario(turns(7), failing=dict.fromkeys(ARMS, 0.05)),
    "7, a run in 20 fails": scenario(plain(7), failing=dict.fromkeys(ARMS, 0.05), **SEEDS),
    "7, a run in 3 of an unsteady arm fails": scenario(plain(7), factors=UNSTEADY, failing={"bce": 0.3}, **SEEDS),
    "10, of 5 folds": scenario(turns(10), fold=0.004),
    "10 in turn on 5 folds": scenario(turns(10)),
    "15 in turn on 5 folds": scenario(turns(15)),
    "20 in turn on 5 folds": scenario(turns(20)),
    "10 in turn, half the variance is the fold's": scenario(turns(10), **HALF),
    "15 in turn, half the variance is the fold's": scenario(turns(15), **HALF),
    "20 in turn, half the variance is the fold's": scenario(turns(20), **HALF),
    "5 seeds x 3 folds": scenario(grid(5, 3), seed=0.003, fold=0.003, replicate=0.003),
    "5 seeds x 5 folds": scenario(grid(5, 5), seed=0.003, fold=0.003, replicate=0.003),
    "5 x 3, neither matters": scenario(grid(5, 3)),
    "3 seeds x 3 folds": scenario(grid(3, 3), seed=0.003, fold=0.003, replicate=0.003),
}

LOOKS = (("10 replicates", 3), ("10 replicates", 5), ("20 in turn on 5 folds", 5))
"""Scenarios that are looked at before their end, and the replicates of the first look."""
PROMISES = (
    ("in turn on 5 folds", scenario(turns(60)), 0.008),
    ("in turn on 5 folds", scenario(turns(60)), 0.01),
    ("in turn, half the variance is the fold's", scenario(turns(60), **HALF), 0.012),
)
"""Studies that say how many replicates they need, and an effect that they miss at first."""

PAIRS = tuple(Contrast(f"{one} over {other}", {one: 1.0, other: -1.0}) for one, other in combinations(ARMS, 2))
TWELVE = {f"set{place}": 5 for place in range(12)}
TIED = {**dict.fromkeys(ARMS, -0.05), "dice": 0.0, "bce+dice": 0.0}
RANKED: Mapping[str, Scenario] = {
    "3 replicates, 3 sets": scenario(plain(3), PAIRS),
    "5 replicates, 3 sets": scenario(plain(5), PAIRS),
    "5 replicates, 12 sets": scenario(plain(5), PAIRS, images=TWELVE),
    "7 in turn on 5 folds, 3 sets": scenario(turns(7), PAIRS),
    "5, 3 sets, replicates dominate": scenario(plain(5), PAIRS, replicate=0.02, image_arm=0.003),
    "5, 12 sets, replicates dominate": scenario(plain(5), PAIRS, replicate=0.02, image_arm=0.003, images=TWELVE),
    "5, 3 sets, images dominate": scenario(plain(5), PAIRS, replicate=0.001, image_arm=0.04),
    "5, 3 sets, two equal ahead of five": Scenario(Truth(effects=TIED, replicates=plain(5)), PAIRS),
}
"""Studies whose seven arms are ranked; all of them are equal, or two of them far ahead."""


TWO = {"cedar": 20, "willow": 20}
EXACT: Mapping[str, Any] = {"replicate": 0.001, "image_arm": 0.002, "residual": 0.004}
"""Noise so small that effects of .005 are told apart."""
WORDED: Mapping[str, tuple[Scenario, tuple[float, ...]]] = {
    "5 replicates, .8 of the smallest": (scenario(plain(5)), (0.004,) * 3),
    "10 replicates, .8 of the smallest": (scenario(plain(10)), (0.004,) * 3),
    "20 replicates, .8 of the smallest": (scenario(plain(20)), (0.004,) * 3),
    "5 exact ones, .8 of the smallest": (scenario(plain(5), **EXACT), (0.004,) * 3),
    "5 exact ones, the smallest": (scenario(plain(5), **EXACT), (0.005,) * 3),
    "5 exact ones, the smallest on one target": (scenario(plain(5), **EXACT), (0.005, 0.0, 0.0)),
    "5 exact ones, nothing": (scenario(plain(5), **EXACT), (0.0,) * 3),
    "5 replicates, nothing": (scenario(plain(5)), (0.0,) * 3),
    "5 replicates, +.02 and -.02": (scenario(plain(5), images=TWO), (0.02, -0.02)),
    "10 replicates, +.02 and -.02": (scenario(plain(10), images=TWO), (0.02, -0.02)),
    "5 exact ones, +.02 and -.02": (scenario(plain(5), images=TWO, **EXACT), (0.02, -0.02)),
    "5 exact ones, +.02, -.02 and 0": (scenario(plain(5), **EXACT), (0.02, -0.02, 0.0)),
    "5 replicates, +.02 and +.02": (scenario(plain(5), images=TWO), (0.02, 0.02)),
    "5 exact ones, +.02 and 0": (scenario(plain(5), images=TWO, **EXACT), (0.02, 0.0)),
}
"""Studies whose contrasts all have an effect that is given by target, .005 being the smallest of interest."""
SMALLEST = 0.005
GROWTHS = (
    ("3 replicates", scenario(plain(60)), 3),
    ("5 replicates", scenario(plain(60)), 5),
    ("3, they dominate", scenario(plain(60), replicate=0.02, image_arm=0.003), 3),
    ("5, they dominate", scenario(plain(60), replicate=0.02, image_arm=0.003), 5),
    ("5 in turn on 5 folds", scenario(turns(60)), 5),
)
"""Studies without effects that follow their own forecasts, and the replicates that they start with."""
NAMED = ("3 replicates", "5 replicates", "10 replicates", "3, replicates dominate", "3, images dominate")
"""Scenarios whose studies say which effect they find in four of five."""
COLLAPSE = 0.4
"""What a run that collapses loses."""


def collapsing(count: int, chance: float = 0.05) -> Scenario:
    """The first component gains in every run as much as its runs that collapse lose, so its mean effect is 0."""
    arms = [arm for arm in ARMS if COMPONENTS[0] in arm.split("+")]
    effects = {arm: chance * COLLAPSE * (arm in arms) for arm in ARMS}
    return Scenario(
        Truth(effects=effects, replicates=plain(count), collapsing=dict.fromkeys(arms, chance), collapse=COLLAPSE)
    )


COLLAPSES: Mapping[str, Scenario] = {f"{count} replicates": collapsing(count) for count in (3, 5, 10, 20)}
"""Studies in which a twentieth of a component's runs collapses."""
INTERPLAYS: Mapping[str, Mapping[str, float]] = {
    "no effect": {},
    "two of .03 that add up": {"bce": 0.03, "dice": 0.03, "bce+dice": 0.06},
    "either .05, both no more": {"bce": 0.05, "dice": 0.05, "bce+dice": 0.05},
}
"""What arms of these components gain, with or without the third."""
CHUNK = 250
"""Studies of 60 replicates that are drawn at once."""


@dataclass(frozen=True)
class Rate:
    """``hits`` of ``count``."""

    hits: int
    count: int

    @classmethod
    def of(cls, hits: npt.ArrayLike) -> Rate:
        """The share of true entries."""
        return cls(int(np.sum(hits)), int(np.size(hits)))

    def interval(self) -> tuple[float, float]:
        """95 % (Wilson 1927). Contrasts of one study are taken as independent where they are counted one by one."""
        share, z2 = self.hits / self.count, 1.96**2 / self.count
        middle, half = share + z2 / 2.0, math.sqrt(z2 * share * (1.0 - share) + z2**2 / 4.0)
        return (middle - half) / (1.0 + z2), (middle + half) / (1.0 + z2)

    def __str__(self) -> str:
        low, high = self.interval()
        return f"{self.hits / self.count:.1%} ({low * 100:.1f}-{high * 100:.1f})"

    def json(self) -> dict[str, float]:
        """Share, and its interval."""
        low, high = self.interval()
        return {"share": self.hits / self.count, "low": low, "high": high, "of": self.count}


def differences(setting: Scenario, studies: int, rng: np.random.Generator) -> list[Floats]:
    """Per target (studies, contrasts, replicates, images), of whichever patients."""
    weights = np.stack([contrast.vector(ARMS) for contrast in setting.family])
    return [
        np.einsum("ca,sari->scri", weights, target, optimize=True) for target in scores(setting.truth, studies, rng)
    ]


def pooled(truth: Truth, values: Sequence[Floats]) -> list[Floats]:
    """Per target (studies, contrasts, replicates, patients); targets of the same patients are one."""
    by_name = dict(zip(truth.images, values, strict=True))
    return [np.concatenate([by_name[name] for name in names], axis=-1) @ matrix for names, matrix, _ in cohorts(truth)]


def draw(setting: Scenario, studies: int, rng: np.random.Generator) -> list[Floats]:
    """Studies as a report sees them."""
    return pooled(setting.truth, differences(setting, studies, rng))


def cohorts(truth: Truth) -> list[tuple[list[str], Floats, Floats]]:
    """Targets that are one since they show the same patients: names, images to patients, the patients' shares."""
    apart = [[name] for name in truth.images if name not in truth.pool]
    together = [name for name in truth.images if name in truth.pool]
    groups = [*apart, together] if together else apart
    found = []
    for names in groups:
        matrix, share = per_patient(*(truth.patients(name).astype(str) for name in names))
        found.append((names, matrix, share * (len(names) / len(truth.images))))
    return found


def shifted(parts: Parts, effect: float) -> Parts:
    """The same studies, had all three contrasts that effect."""
    return replace(parts, estimate=parts.estimate + effect)


def reach(parts: Parts) -> float:
    """Five standard errors, as the studies' estimates spread: a smallest effect of interest that can be told from 0."""
    return 5.0 * float(parts.estimate.std(axis=0).mean())


def one_quantile(parts: Parts) -> tuple[Floats, Floats]:
    """Margins of 95 % and two-sided p with one t quantile and Satterthwaite's degrees of freedom, for comparison."""
    total = parts.total()
    df = total**2 / np.maximum((parts.variances**2 / parts.degrees).sum(axis=0), 1e-300)
    se = np.sqrt(total)
    return -stdtrit(df, 0.025) * se, 2.0 * stdtr(df, -np.abs(parts.estimate) / se)


def measure(setting: Scenario, studies: int, rng: np.random.Generator) -> dict[str, Rate]:
    """All rates of one scenario."""
    if setting.truth.failing:
        return incomplete(setting, studies, rng)
    images = differences(setting, studies, rng)
    values = pooled(setting.truth, images)
    pairs, shares = setting.truth.replicates, [share for *_, share in cohorts(setting.truth)]
    parts = crossed(values, pairs, shares)
    margin, p = one_quantile(parts)
    low, high = pigeonhole(values, pairs, rng, resamples=DRAWS, shares=shares)
    means = target_mean(values, shares)
    smallest = reach(parts)
    rates = {
        "matters": called(parts.p()),
        "does_not_matter": called(shifted(parts, smallest).equivalence_p(smallest)),
        "covers": Rate.of(np.abs(parts.estimate) <= parts.margin()),
        "bootstrap_covers": Rate.of((low <= 0.0) & (high >= 0.0)),
        "one_quantile_covers": Rate.of(np.abs(parts.estimate) <= margin),
        "one_quantile_matters": called(p),
    }
    if setting.truth.pool:
        rates["apart"] = called(crossed(images, pairs).p())
    if len(set(setting.truth.images.values())) > 1:
        rates["uncapped"] = called(uncapped(values, parts).p())
    flips = sign_flip(means, pairs, rng)
    rates |= {} if isinstance(flips, Refused) else {"sign_flip": Rate.of(flips <= ALPHA)}
    return rates | (planted(setting, parts) if has_promise(setting) else {})


def called(p: Floats) -> Rate:
    """The share of studies in which any contrast is told, by ``p`` (studies, contrasts)."""
    return Rate.of((adjust(p) <= FIRST).any(axis=-1))


def uncapped(values: Sequence[Floats], parts: Parts) -> Parts:
    """The same studies with Satterthwaite's degrees of freedom over targets whose patients weigh alike."""
    variances = np.stack([value.mean(axis=-2).var(axis=-1, ddof=1) / value.shape[-1] for value in values])
    free = satterthwaite(variances, np.array([value.shape[-1] - 1.0 for value in values]))
    return replace(
        parts, degrees=np.stack([*np.broadcast_to(parts.degrees[:-1], (len(parts.names) - 1, *free.shape)), free])
    )


def incomplete(setting: Scenario, studies: int, rng: np.random.Generator) -> dict[str, Rate]:
    """The rates of a scenario in which runs fail: study by study, as a report does it, without a comparison."""
    used = [
        complete_cases(cells, contrast.vector(ARMS), None)
        for cells in (simulate(setting.truth, rng) for _ in range(studies))
        for contrast in setting.family
    ]
    parts = [None if one.why else one.parts() for one in used]
    told = [one for one in parts if one is not None]
    smallest = 5.0 * float(np.std([one.estimate for one in told]))

    def each(p: Callable[[Parts], Floats]) -> Floats:
        return np.array([1.0 if one is None else float(p(one)) for one in parts]).reshape(studies, -1)

    return {
        "matters": called(each(Parts.p)),
        "does_not_matter": called(each(lambda one: shifted(one, smallest).equivalence_p(smallest))),
        "covers": Rate.of([abs(one.estimate) <= one.margin() for one in told]),
        "refused": Rate(len(parts) - len(told), len(parts)),
    }


def worded(
    setting: Scenario, effects: Sequence[float], studies: int, rng: np.random.Generator
) -> dict[str, Rate | float]:
    """In how many studies any contrast of the family gets each verdict, where all have ``effects``, one a target.

    Beside them *differs at all* and *small at all*: the tests against 0, and against the smallest of the mean alone,
    which were once all that *matters* and *does not matter* meant. ``overstated``: how many times too large the
    estimates of the contrasts that differ or matter are on average, ``forecast``: the same by ``power.exaggeration``
    from the true variances; NaN without a mean effect.
    """
    pairs, truth = setting.truth.replicates, float(np.mean(effects))
    values = [value + effect for value, effect in zip(draw(setting, studies, rng), effects, strict=True)]
    mean, on = crossed(values, pairs), [crossed([value], pairs) for value in values]
    small_on = np.stack([one.equivalence_p(SMALLEST) for one in on], axis=-1)
    raw = PerTest(
        mean.p(),
        mean.beyond_p(SMALLEST),
        mean.equivalence_p(SMALLEST),
        small_on.max(axis=-1),
        np.stack([one.p() for one in on], axis=-1),
        small_on,
    )
    estimates = np.stack([one.estimate for one in on], axis=-1)
    seen = PerTest(mean.estimate, mean.estimate, mean.estimate, mean.estimate, estimates, estimates)
    p = raw.each(adjust)
    said = kinds(p, seen, FIRST)
    names = {"matters": "beyond", "perhaps": "differs", "opposed": "opposed", "on_average": "small"}
    names["does_not_matter"] = "everywhere"
    found = raw.differs <= setting.level
    exaggerated = float(np.abs(mean.estimate[found]).mean() / abs(truth)) if truth and found.any() else math.nan
    noise = setting.truth.variances(setting.family[0])
    return {
        **{name: Rate.of((said == kind).any(axis=-1)) for name, kind in names.items()},
        "differs_at_all": called(raw.differs),
        "small_at_all": called(raw.small),
        "overstated": exaggerated,
        "forecast": exaggeration(truth, noise, pairs, setting.level) if truth else math.nan,
    }


def has_promise(setting: Scenario) -> bool:
    """Whether its power is promised: one image a patient, targets of one size, contrasts of one variance."""
    truth = setting.truth
    alike = len(set(truth.images.values())) == 1 and not truth.pool and not truth.factors
    return truth.per_patient == 1 and setting.family is FAMILY and alike


def planted(setting: Scenario, parts: Parts) -> dict[str, Rate]:
    """How often what was promised with 80 % is found."""
    noise, pairs = setting.truth.variances(setting.family[0]), setting.truth.replicates
    effect = minimum_detectable(noise, pairs, setting.level)
    found = shifted(parts, effect).p() <= setting.level
    highest = 100.0 * math.sqrt(noise.replicate / len(pairs) + noise.seed + noise.fold + noise.images)

    def off(smallest: float) -> float:
        return equivalence_power(0.0, noise, pairs, smallest, setting.level) - GOAL

    smallest = float(brentq(off, 1e-9, highest))
    rates = {"found": Rate.of(found), "equivalent": Rate.of(parts.equivalence_p(smallest) <= setting.level)}
    if "folds" in clusters(pairs):
        blind = minimum_detectable(noise.unshared(), plain(len(pairs)), setting.level)
        rates["found_unshared"] = Rate.of(shifted(parts, blind).p() <= setting.level)
    return rates


def looked(setting: Scenario, first: int, studies: int, rng: np.random.Generator) -> dict[str, Any]:
    """Rates over interim looks, of whatever effect the studies have; also how many were decided by which look."""
    most = len(setting.truth.replicates)
    looks = schedule(first, most)
    values = draw(setting, studies, rng)
    steps = Looks().planned(looks, ALPHA).errors
    seen = [crossed([value[..., :look, :] for value in values], setting.truth.replicates[:look]) for look in looks]
    effect = minimum_detectable(setting.truth.variances(setting.family[0]), setting.truth.replicates, setting.level)
    differs = over_looks(np.stack([parts.p() for parts in seen]), steps, ALPHA)
    smallest = reach(seen[-1])
    same = over_looks(np.stack([shifted(parts, smallest).equivalence_p(smallest) for parts in seen]), steps, ALPHA)
    alone = np.stack([shifted(parts, effect).p() for parts in seen])
    by_look = [Rate.of(over_looks(alone[: k + 1], steps[: k + 1], ALPHA) <= ALPHA) for k in range(len(looks))]
    return {
        "looks": list(looks),
        "matters": Rate.of((differs <= ALPHA).any(axis=-1)),
        "does_not_matter": Rate.of((same <= ALPHA).any(axis=-1)),
        "found_by_look": by_look,
        "found_without_looks": Rate.of(adjust(alone[-1]) <= FIRST),
    }


def promised(setting: Scenario, effect: float, start: int, studies: int, rng: np.random.Generator) -> dict[str, Any]:
    """What the number of further replicates is worth that studies of ``start`` replicates state from what they saw.

    For the first contrast, with the other two open: the number by the truth, quartiles of those stated, and the share
    of studies that found the effect once they had as many as they had asked for (at most those drawn), with the error
    that growing leaves.
    """
    pairs, most = setting.truth.replicates, len(setting.truth.replicates)
    level = Looks().planned((start,)).looked().growing() / len(setting.family)
    values = [value[:, 0] for value in draw(setting, studies, rng)]
    early = shifted(crossed([value[:, :start] for value in values], pairs[:start]), effect)

    def grown(more: int) -> tuple[Pair, ...]:
        return (*pairs[:start], *continued(pairs[:start], more))

    undecided = np.flatnonzero(early.p() > setting.level)
    stated, hits = [], []
    for study in undecided:
        noise = ContrastNoise.of(one(early, int(study)), pairs[:start])
        more = more_needed(float(early.estimate[study]), noise, grown, lambda _: level)
        stated.append(start + more if more is not None else math.inf)
        if more is not None and start + more <= most:
            late = crossed([value[study, : start + more] for value in values], pairs[: start + more])
            hits.append(float(shifted(late, effect).p()) <= level)
    by_truth = more_needed(effect, setting.truth.variances(setting.family[0]), grown, lambda _: level)
    return {
        "effect": effect,
        "start": start,
        "by_truth": None if by_truth is None else start + by_truth,
        "undecided": Rate(len(undecided), studies),
        "stated": np.quantile(stated, [0.25, 0.5, 0.75], method="lower").tolist(),
        "none_or_over": Rate(sum(number > most for number in stated), len(stated)),
        "kept": Rate.of(hits),
    }


def one(parts: Parts, place: int) -> Parts:
    """The estimate at one place of the one leading axis."""
    return Parts(
        parts.estimate[place],
        parts.names,
        parts.variances[:, place],
        parts.degrees[:, place],
        parts.residual[place],
        {name: variance[place] for name, variance in parts.components.items()},
    )


def grown(
    setting: Scenario, start: int, growths: int, studies: int, rng: np.random.Generator, spends: bool = True
) -> dict[str, Any]:
    """Studies of ``start`` replicates that grow as their reports advise, up to ``growths`` times.

    While a contrast is open that gives a number of further replicates (at most those drawn in all), the study takes the
    smallest such number. No contrast has an effect: the share of studies that call any of them different from 0.
    ``spends``: each look has the error that `Looks` gives it; else the whole 5 %, as if it were the first.
    """
    pairs, most = setting.truth.replicates, len(setting.truth.replicates)
    wrong, took, looks = [], [], []
    for first in range(0, studies, CHUNK):
        values = draw(setting, min(CHUNK, studies - first), rng)
        for study in range(len(values[0])):
            own = [value[study] for value in values]
            seen, open_ = Looks().planned((start,)).looked(), np.ones(len(setting.family), dtype=np.bool_)
            while True:
                count = seen.past[-1]
                parts = crossed([value[:, :count] for value in own], pairs[:count])
                error = seen.errors[seen.done - 1] if spends else ALPHA
                open_ &= adjust(np.where(open_, parts.p(), 0.0)) > error
                level = (seen.growing() if spends else ALPHA) / max(1, open_.sum())
                said = [_advised(one(parts, int(k)), pairs, count, most, level) for k in np.flatnonzero(open_)]
                more = min((number for number in said if number is not None), default=None)
                if more is None or seen.done > growths:
                    break
                seen = seen.planned((count + more,)).looked()
            wrong.append(not open_.all())
            took.append(seen.past[-1])
            looks.append(seen.done)
    return {
        "start": start,
        "growths": growths,
        "matters": Rate.of(wrong),
        "grew": Rate.of(np.array(looks) > 1),
        "replicates": float(np.mean(took)),
        "most_looks": int(max(looks)),
    }


def named(setting: Scenario, studies: int, rng: np.random.Generator) -> dict[str, Rate]:
    """Whether studies find the effect that a study like them says they find in four of five, for the first contrast.

    ``known``: had it taken its variances for the true ones.
    """
    pairs, level = setting.truth.replicates, setting.level
    naming, looking = (crossed([value[:, 0] for value in draw(setting, studies, rng)], pairs) for _ in range(2))
    hits: dict[str, list[bool]] = {"found": [], "known": []}
    for study in range(studies):
        noise, other = ContrastNoise.of(one(naming, study), pairs), one(looking, study)
        for how, effect in (("found", detectable), ("known", minimum_detectable)):
            hits[how].append(float(shifted(other, effect(noise, pairs, level)).p()) <= level)
    return {how: Rate.of(found) for how, found in hits.items()}


def _advised(parts: Parts, pairs: Sequence[Pair], count: int, most: int, level: float) -> int | None:
    """The number of further replicates that a contrast asks for, up to ``most`` in all; None where they do not do."""
    noise = ContrastNoise.of(parts, pairs[:count])

    def expected(more: int) -> bool:
        return decided_by(float(parts.estimate), noise, pairs[: count + more], level) >= GOAL

    if count >= most or not expected(most - count):
        return None
    return next(more for more in range(1, most - count + 1) if expected(more))


def collapsed(setting: Scenario, studies: int, rng: np.random.Generator) -> dict[str, Rate]:
    """What is said of the component whose runs collapse: *matters*, told from 0; *helps*, told to be above it.

    *covers*: its 95 % intervals.
    """
    parts = crossed(draw(setting, studies, rng), setting.truth.replicates)
    told = adjust(parts.p())[:, 0] <= FIRST
    return {
        "matters": Rate.of(told),
        "helps": Rate.of(told & (parts.estimate[:, 0] > 0.0)),
        "covers": Rate.of(np.abs(parts.estimate[:, 0]) <= parts.margin()[:, 0]),
    }


def depending(gains: Mapping[str, float], studies: int, rng: np.random.Generator) -> Rate:
    """The share of studies of five replicates in which a pair is said to depend on each other, as a report does it."""
    by_arm = {arm: gains.get("+".join(part for part in arm.split("+") if part != COMPONENTS[-1]), 0.0) for arm in ARMS}
    truth = Truth(effects=by_arm, replicates=plain(5))
    among = pairings({frozenset(arm.split("+")): arm for arm in ARMS})
    told = []
    for _ in range(studies):
        cells = simulate(truth, rng)
        mains = {one.name: complete_cases(cells, one.vector(ARMS), None).estimate() for one in FAMILY}
        told.append(bool(interplays(cells, among, mains, rng, FIRST)))
    return Rate.of(told)


def ranked(setting: Scenario, studies: int, rng: np.random.Generator) -> dict[str, Rate]:
    """How often ranks tell equal arms apart, and how often Friedman's test over data sets calls arms different.

    Friedman's once for the arms as they are, and once with an untrained arm beside them, which is last everywhere; both
    only where all arms are equal.
    """
    drawn = scores(setting.truth, studies, rng)
    weights = np.stack([contrast.vector(ARMS) for contrast in setting.family])
    parts = crossed(
        [np.einsum("ca,sari->scri", weights, own, optimize=True) for own in drawn], setting.truth.replicates
    )
    equal = np.array([setting.truth.effect(contrast) == 0.0 for contrast in setting.family])
    rates = {"ranked": Rate.of((adjust(parts.p()) <= ALPHA)[:, equal].any(axis=-1))}
    if not equal.all():
        return rates
    means = np.stack([own.mean(axis=(2, 3)) for own in drawn], axis=1)
    untrained = np.full((*means.shape[:2], 1), means.min() - 1.0)
    for name, sets in (("friedman", means), ("friedman_untrained", np.concatenate([means, untrained], axis=2))):
        rates[name] = Rate.of([float(friedmanchisquare(*study.T).pvalue) <= ALPHA for study in sets])
    return rates


def rank_rows(results: Mapping[str, Mapping[str, Rate]]) -> Table:
    """The scenarios of ranks."""
    table = Table("scenario", "equal arms told apart", "Friedman over sets", "with an untrained arm")
    for name, rates in results.items():
        table.add_row(name, *(str(rates.get(key, "")) for key in ("ranked", "friedman", "friedman_untrained")))
    return table


def rows(results: Mapping[str, Mapping[str, Rate]]) -> Iterator[Table]:
    """The scenarios as two tables: errors, and what they are compared with."""
    first = Table("scenario", "matters", "does not matter", "covers", "found (80 %)", "equivalent (80 %)")
    beside = ("bootstrap_covers", "one_quantile_covers", "one_quantile_matters", "uncapped", "apart", "sign_flip")
    second = Table("scenario", *(key.replace("_", " ") for key in (*beside, "found_unshared")))
    for name, rates in results.items():
        power = [str(rates[key]) if key in rates else "" for key in ("found", "equivalent")]
        first.add_row(name, *(str(rates[key]) for key in ("matters", "does_not_matter", "covers")), *power)
        second.add_row(name, *(str(rates.get(key, "")) for key in (*beside, "found_unshared")))
    yield first
    yield second


TABLES: Mapping[str, Sequence[str]] = {
    "scenarios": ("matters", "does_not_matter", "covers", "found", "equivalent", "bootstrap_covers"),
    "looks": ("matters", "does_not_matter", "found", "found_without_looks"),
    "growths": ("spent", "free", "grew"),
    "words": ("matters", "perhaps", "opposed", "on_average", "does_not_matter", "differs_at_all", "small_at_all"),
    "collapses": ("matters", "helps", "covers"),
    "ranks": ("ranked", "friedman", "friedman_untrained"),
}
"""The tables in docs/verdicts.md: the parts of the results, and what of them is shown."""


def documented(results: Mapping[str, Any]) -> Iterator[str]:
    """The rows of all tables in docs/verdicts.md, from results as they are written to the file."""
    looks = {name: {**found, "found": found["found_by_look"][-1]} for name, found in results["looks"].items()}
    growths = {
        name: {"spent": found["spent"]["matters"], "free": found["free"]["matters"], "grew": found["spent"]["grew"]}
        for name, found in results["growths"].items()
    }
    shown = {**results, "looks": looks, "growths": growths}
    for part, keys in TABLES.items():
        yield from markdown(shown[part], keys)


def markdown(results: Mapping[str, Mapping[str, Mapping[str, float]]], keys: Sequence[str]) -> list[str]:
    """Rows of a table: rates in percent with their ranges."""

    def cell(rates: Mapping[str, Mapping[str, float]], key: str) -> str:
        one = rates.get(key)
        return f"{100 * one['share']:.1f} ({100 * one['low']:.1f}–{100 * one['high']:.1f})" if one else ""

    return [f"| {name} | {' | '.join(cell(rates, key) for key in keys)} |" for name, rates in results.items()]


def word_rows(results: Mapping[str, Mapping[str, Rate | float]]) -> Table:
    """What is said of small effects, and of those that differ by target."""
    keys = ("matters", "perhaps", "opposed", "on_average", "does_not_matter", "differs_at_all", "small_at_all")
    table = Table("effects", *(key.replace("_", " ") for key in keys), "overstated (forecast)")
    for name, found in results.items():
        table.add_row(name, *(str(found[key]) for key in keys), f"{found['overstated']:.2f} ({found['forecast']:.2f})")
    return table


def collapsed_rows(results: Mapping[str, Mapping[str, Rate]]) -> Table:
    """What is said of a component of no effect whose runs collapse now and then: no promise."""
    table = Table("a run in 20 collapses", "matters", "helps", "covers")
    for name, rates in results.items():
        table.add_row(name, *(str(rates[key]) for key in ("matters", "helps", "covers")))
    return table


def grown_rows(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """What following a report's own advice costs."""
    table = Table("grown as advised, from", "matters", "at 5 % each", "studies that grew", "replicates", "looks")
    for name, found in results.items():
        spent, free = found["spent"], found["free"]
        shares = (str(spent["matters"]), str(free["matters"]), str(spent["grew"]))
        table.add_row(name, *shares, f"{spent['replicates']:.1f}", f"up to {spent['most_looks']}")
    return table


def later_rows(looks: Mapping[str, Mapping[str, Any]], promises: Sequence[Mapping[str, Any]]) -> Iterator[Table]:
    """Interim looks, and the promises that studies make of themselves."""
    first = Table("looks at", "matters", "does not matter", "found, by look", "found without looks")
    for found in looks.values():
        by_look = ", ".join(str(rate) for rate in found["found_by_look"])
        errors = (str(found[key]) for key in ("matters", "does_not_matter"))
        first.add_row(", ".join(map(str, found["looks"])), *errors, by_look, str(found["found_without_looks"]))
    second = Table(
        "replicates", "effect", "needs", "undecided at 5", "say, quartiles", "say none or over 60", "then found"
    )
    for one in promises:
        said = ", ".join(map(str, one["stated"]))
        shares = (str(one[key]) for key in ("none_or_over", "kept"))
        second.add_row(
            one["replicates"], str(one["effect"]), str(one["by_truth"]), str(one["undecided"]), said, *shares
        )
    yield first
    yield second


def plain_json(value: Any) -> Any:
    """Rates as their numbers, infinity as a word."""
    if isinstance(value, Rate):
        return value.json()
    if isinstance(value, Mapping):
        return {key: plain_json(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [plain_json(entry) for entry in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    return "more" if value == math.inf else value


def main() -> None:
    """Measure, print and write."""
    first = (__doc__ or "").partition("\n")[0]
    command = argparse.ArgumentParser(prog="python -m benchmarks.error_rates", description=first)
    command.add_argument("--studies", type=int, default=2000, metavar="N", help="studies of a scenario")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of all draws")
    command.add_argument("--out", type=Path, default=Path("benchmarks/results/error_rates.json"), metavar="FILE")
    arguments = command.parse_args()
    described, begun, console = machine(), time.perf_counter(), Console()
    root = np.random.default_rng(arguments.seed)
    results = {
        name: measure(setting, arguments.studies, rng)
        for (name, setting), rng in zip(SCENARIOS.items(), root.spawn(len(SCENARIOS)), strict=True)
    }
    for table in rows(results):
        console.print(table)
    looks = {
        f"{name}, from {start}": looked(SCENARIOS[name], start, arguments.studies, rng)
        for (name, start), rng in zip(LOOKS, root.spawn(len(LOOKS)), strict=True)
    }
    promises = [
        {"replicates": name, **promised(setting, effect, 5, arguments.studies // 4, rng)}
        for (name, setting, effect), rng in zip(PROMISES, root.spawn(len(PROMISES)), strict=True)
    ]
    growths = {
        name: {
            how: grown(setting, start, 4, arguments.studies // 2, np.random.default_rng(seed), spends)
            for how, spends in (("spent", True), ("free", False))
        }
        for (name, setting, start), seed in zip(GROWTHS, root.integers(2**32, size=len(GROWTHS)), strict=True)
    }
    console.print(grown_rows(growths))
    promised_effects = {
        name: named(SCENARIOS[name], arguments.studies // 2, np.random.default_rng(seed))
        for name, seed in zip(NAMED, root.integers(2**32, size=len(NAMED)), strict=True)
    }
    table = Table("effect named by a study of", "found by others (80 %)", "had the variances been known")
    for name, rates in promised_effects.items():
        table.add_row(name, str(rates["found"]), str(rates["known"]))
    console.print(table)
    for table in later_rows(looks, promises):
        console.print(table)
    places = {
        name: ranked(setting, arguments.studies, rng)
        for (name, setting), rng in zip(RANKED.items(), root.spawn(len(RANKED)), strict=True)
    }
    console.print(rank_rows(places))
    words = {
        name: worded(setting, effects, arguments.studies, rng)
        for (name, (setting, effects)), rng in zip(WORDED.items(), root.spawn(len(WORDED)), strict=True)
    }
    console.print(word_rows(words))
    collapses = {
        name: collapsed(setting, arguments.studies, rng)
        for (name, setting), rng in zip(COLLAPSES.items(), root.spawn(len(COLLAPSES)), strict=True)
    }
    console.print(collapsed_rows(collapses))
    depends = {
        name: depending(gains, arguments.studies // 2, rng)
        for (name, gains), rng in zip(INTERPLAYS.items(), root.spawn(len(INTERPLAYS)), strict=True)
    }
    for name, rate in depends.items():
        console.print(f"a pair is said to depend on each other, {name}: {rate}", highlight=False)
    result = {
        "machine": described, "studies": arguments.studies, "seed": arguments.seed,
        "seconds": round(time.perf_counter() - begun, 1), "scenarios": results, "looks": looks, "promises": promises,
        "ranks": places, "words": words, "growths": growths, "named": promised_effects,
        "collapses": collapses, "interplays": depends,
    }  # fmt: skip
    save(plain_json(result), arguments.out)


if __name__ == "__main__":
    main()
