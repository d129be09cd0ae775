"""Samplers, which propose the next trial. Each choice builds a sampler of Optuna.

The verb is ``build(seed, space, started)``: ``seed`` a non-negative integer, ``space`` the distributions by parameter
(which only ``Grid`` reads), ``started`` how many trials the study has so far. ``limit(space)`` is the number of
distinct trials that the sampler can propose, or None; ``several_objectives`` says whether it can search for a front.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from harness.samplers.cmaes import CMAES
from harness.samplers.gp import GP
from harness.samplers.grid import Grid
from harness.samplers.nsga2 import NSGA2
from harness.samplers.qmc import QMC
from harness.samplers.random import Random
from harness.samplers.tpe import TPE

Sampler = Annotated[TPE | Random | GP | CMAES | QMC | Grid | NSGA2, Field(discriminator="kind")]

__all__ = ["CMAES", "GP", "NSGA2", "QMC", "TPE", "Grid", "Random", "Sampler"]
