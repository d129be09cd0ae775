"""An ablation, as a frozen value: arms that differ from a base as declared, each run in every replicate."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import Any

from harness.designs import Design
from harness.experiments.replicates import Replicates
from harness.record.metric_names import unjudgeable
from harness.stats.scores import Contrast
from harness.text import difference
from sam2lora.config import TrialConfig
from sam2lora.metrics import METRICS
from sam2lora.settings import differences, with_assignments

LEAST_SEEDS = 3
"""The fewest seeds whose spread says anything: a difference between two runs says nothing about a third."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _+.,=%()-]*")


@dataclass(frozen=True)
class Arm:
    """The base with the values ``differs``, by the path of a setting, and no other difference."""

    name: str
    differs: Mapping[str, Any]

    def of(self, base: TrialConfig) -> TrialConfig:
        """The settings of the arm."""
        return with_assignments(base, [f"{path}={json.dumps(value)}" for path, value in self.differs.items()])

    def __str__(self) -> str:
        return ", ".join(f"{path} = {difference(value)}" for path, value in self.differs.items()) or "the base"


@dataclass(frozen=True)
class Ablation:
    """The arms, their comparisons, the replicates, the metric, and the smallest difference of interest.

    ``base``: what the arms of ``design`` start from. ``replicates``: every arm runs in each of them, with the same
    draws and folds as the others. ``primary``: the metric of the test images that verdicts are about, for which more
    is better. ``smallest_of_interest``: a difference between minus and plus this value does not matter. ``most``: the
    number of replicates at which adding replicates until all is decided ends.

    Raises ``ValueError`` for a question that could not be answered: see the checks below.
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
                f"{self.smallest_of_interest}: give the difference that would be too small to act on."
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
        """The family of comparisons, whose verdicts are corrected together."""
        return self.design.contrasts()

    def repeated(self, count: int) -> Ablation:
        """The same question over ``count`` replicates of the same sequence."""
        return replace(self, replicates=replace(self.replicates, count=count), most=max(self.most, count))

    def _check_names(self) -> None:
        for name in self.settings:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"The name of an arm must begin with a letter or a digit and continue with these, spaces and "
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
        tested = {
            name: (config.protocol.targets, config.protocol.target_images) for name, config in self.settings.items()
        }
        first = next(iter(tested))
        for name, sets in tested.items():
            if sets != tested[first]:
                raise ValueError(
                    f"Arms must be tested on the same images, but the targets of {name!r} are not those of {first!r}: "
                    f"let arms differ in their sources only."
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
                f"most must be at least {len(drawn)}, the declared replicates, but is {self.most}: raise it."
            )
