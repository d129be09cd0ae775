"""Thresholds. A choice says above which probability a pixel counts as predicted when a trial is tested at its end.

``candidates`` are the probabilities in (0, 1) that it chooses among, none where images have no say: then no image is
predicted for it. ``find(sources)`` gives one. ``sources`` holds, for every source, the Dice of each of its validation
images at every candidate. Nothing else is ever shown to a threshold: no test image, no target. The validation score
after each epoch, which a sampler sees, is always that of the probability 0.5.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sam2lora.thresholds.chosen_on_validation import ChosenOnValidation
from sam2lora.thresholds.fixed import Fixed

Threshold = Annotated[Fixed | ChosenOnValidation, Field(discriminator="kind")]

__all__ = ["ChosenOnValidation", "Fixed", "Threshold"]
