"""Ablation: a question about parts, frozen: arms that differ from a base as declared, each in every replicate."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any

from harness.designs import Design
from harness.record.table import unjudgeable
from harness.stats.scores import FOLDS, Contrast
from harness.text import difference
from sam2lora.choice import to_json
from sam2lora.config import Replicate, TrialConfig
from sam2lora.metrics import METRICS
from sam2lora.settings import changed, differences

LEAST_SEEDS = 3
"""A difference between two runs says nothing of a third: so many seeds are the fewest that have a spread."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _+.,=%()-]*")


@dataclass(frozen=True)
class Replicates:
    """The first ``count`` of a sequence of replicates that does not end: ``at(k)`` is the one at place k, from 0."""

    count: int
    at: Callable[[int], Replicate]

    def all(self) -> tuple[Replicate, ...]:
        """The replicates, in order."""
        return tuple(self.at(place) for place in range(self.count))


def replicates(n: int) -> Replicates:
    """n replicates, each with a seed of its own: seed k validates on fold k mod 5."""
    return Replicates(n, lambda place: _replicate(place, place))


def grid(*, seeds: int, folds: int) -> Replicates:
    """Every seed with every fold, so that what each of them adds to the spread can be told apart. Up to five folds."""
    if not 1 <= folds <= FOLDS:
        raise ValueError(f"There are {FOLDS} folds, but folds is {folds}: choose 1 to {FOLDS}.")
    return Replicates(seeds * folds, lambda place: _replicate(place // folds, place % folds))


def _replicate(seed: int, fold: int) -> Replicate:
    return Replicate(seed=seed, fold=fold % FOLDS)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Arm:
    """What differs from the base, and nothing else: ``differs`` holds values by the path of a setting."""

    name: str
    differs: Mapping[str, Any]

    def of(self, base: TrialConfig) -> TrialConfig:
        """The settings of the arm."""
        return changed(base, [f"{path}={json.dumps(value)}" for path, value in self.differs.items()])

    def __str__(self) -> str:
        return ", ".join(f"{path} = {difference(value)}" for path, value in self.differs.items()) or "the base"


@dataclass(frozen=True)
class Ablation:
    """Which arms are compared with which, how often, by what, and how small a difference is of no interest.

    ``base``: what the arms of ``design`` start from. ``replicates``: every arm runs in each of them, with the same
    draws and folds as the others. ``primary``: the metric of the test images that verdicts are about, one of which more
    is better. ``smallest_of_interest``: a difference that lies within plus and minus this does not matter. ``most``:
    the number of replicates at which adding some until all is decided ends.

    Raises ``ValueError`` for what could not be answered: see the checks below.
    """

    base: TrialConfig
    design: Design
    replicates: Replicates
    primary: str = field(kw_only=True)
    smallest_of_interest: float = field(kw_only=True)
    most: int = field(default=20, kw_only=True)

    def __post_init__(self) -> None:
        self._check_names()
        self._check_differences()
        self._check_targets()
        self._check_replicates()
        if self.primary not in METRICS:
            near = difflib.get_close_matches(self.primary, METRICS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(METRICS)}."
            raise ValueError(f"The primary metric must be one that the evaluation makes, not {self.primary!r}: {hint}")
        if why := unjudgeable(self.primary):
            raise ValueError(
                f"The primary metric must be one of which more is better, because verdicts call a positive effect "
                f"help, but {why}: choose dice, or boundary_iou for discs; images.parquet of a trial holds the others."
            )
        if not (0 < self.smallest_of_interest < math.inf):
            raise ValueError(
                f"smallest_of_interest must be a positive number in units of {self.primary}, but is "
                f"{self.smallest_of_interest}: say which difference would be too small to act on."
            )

    @cached_property
    def settings(self) -> dict[str, TrialConfig]:
        """The settings of every arm, by name, in the design's order."""
        return self.design.arms(self.base)

    @property
    def arms(self) -> tuple[Arm, ...]:
        """Every arm, in the design's order."""
        return tuple(Arm(name, differences(self.base, config)) for name, config in self.settings.items())

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """The family of comparisons that are judged together."""
        return self.design.contrasts()

    def repeated(self, count: int) -> Ablation:
        """The same question over ``count`` replicates of the same sequence."""
        return replace(self, replicates=replace(self.replicates, count=count), most=max(self.most, count))

    def _check_names(self) -> None:
        for name in self.settings:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"The name of an arm must begin with a letter or a digit and go on with these, spaces and "
                    f"_ + - . , = % ( ), but is {name!r}: rename its factor or level."
                )

    def _check_differences(self) -> None:
        for (one, first), (other, second) in combinations(self.settings.items(), 2):
            if first == second:
                raise ValueError(f"Arms must differ, but {one!r} and {other!r} have the same settings: leave one out.")
        for name, config in self.settings.items():
            if config == self.base and name not in self.design.baselines():
                raise ValueError(
                    f"An arm must change something, but {name!r} is the base: leave it out, or declare it as what the "
                    f"others are compared with."
                )

    def _check_targets(self) -> None:
        judged = {
            name: (config.protocol.targets, config.protocol.target_images) for name, config in self.settings.items()
        }
        first = next(iter(judged))
        for name, sets in judged.items():
            if sets != judged[first]:
                raise ValueError(
                    f"Arms must be judged on the same images, but the targets of {name!r} are not those of {first!r}: "
                    f"let arms differ in their sources alone."
                )

    def _check_replicates(self) -> None:
        drawn = self.replicates.all()
        seeds = {replicate.seed for replicate in drawn}
        if len(seeds) < LEAST_SEEDS:
            raise ValueError(
                f"An ablation needs {LEAST_SEEDS} seeds or more, but its {len(drawn)} replicates have {len(seeds)}: "
                f"one or two runs cannot tell an effect from luck; raise the number of replicates."
            )
        if self.most < len(drawn):
            raise ValueError(
                f"most must be {len(drawn)} replicates or more, which are declared, but is {self.most}: raise it."
            )


def question(
    name: str,
    ablation: Ablation,
    materials: Mapping[str, str],
    settings: Mapping[str, TrialConfig] | None = None,
    tuned: int = 0,
) -> dict[str, Any]:
    """Whatever decides what a study's numbers mean, as JSON, as of a search (``harness.experiments.search.question``).

    ``settings``: of the arms after each had ``tuned`` trials of tuning; None as they are declared.
    """
    base = ablation.base
    return {
        "search": name,
        "ablation": asked(ablation, settings, tuned),
        "sources": [dataset.name for dataset in base.protocol.sources],
        "targets": [dataset.name for dataset in base.protocol.targets],
        "protocol": json.loads(to_json(base.protocol)),
        "backbone": json.loads(to_json(base.backbone)),
        "image_size": base.image_size,
        "epochs": base.epochs,
        "objectives": ["val/dice"],
        "directions": ["maximize"],
        "materials": dict(sorted(materials.items())),
    }


def asked(ablation: Ablation, settings: Mapping[str, TrialConfig] | None = None, tuned: int = 0) -> dict[str, Any]:
    """What is asked of the arms, as JSON: a report needs neither the declaration nor torch.

    ``settings`` and ``tuned`` as for ``question``; ``chosen`` holds what tuning put in place of the declared settings.
    """
    ran = settings or ablation.settings
    chosen = {name: differences(ablation.settings[name], config) for name, config in ran.items()}
    return {
        "design": ablation.design.describe(),
        "base": json.loads(to_json(ablation.base)),
        "arms": {name: differences(ablation.base, config) for name, config in ran.items()},
        "contrasts": {contrast.name: dict(contrast.weights) for contrast in ablation.contrasts},
        "components": ablation.design.membership(),
        "replicates": [[replicate.seed, replicate.fold] for replicate in ablation.replicates.all()],
        "primary": ablation.primary,
        "smallest_of_interest": ablation.smallest_of_interest,
        "tuned": tuned,
        **({"chosen": chosen} if tuned else {}),
    }
