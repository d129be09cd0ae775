"""Schedulers, which stop trials early. Each choice builds a scheduler of Ray Tune.

The verb is ``build(epochs)``. Time is counted in epochs and the score is maximised. Every scheduler here decides from
what trials have reported so far and never pauses one, so its state can be rebuilt from recorded curves.
Ray is imported inside the verb: naming a scheduler in a declaration costs nothing.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from harness.schedulers.asha import ASHA
from harness.schedulers.full import Full
from harness.schedulers.hyperband import HyperBand
from harness.schedulers.median import Median

Scheduler = Annotated[ASHA | HyperBand | Median | Full, Field(discriminator="kind")]

__all__ = ["ASHA", "Full", "HyperBand", "Median", "Scheduler"]
