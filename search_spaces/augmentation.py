"""Which augmentation, and how much of it, carries over to a hospital that the model has not seen?"""

from __future__ import annotations

from dataclasses import replace

import optuna

from harness.experiments.search import Search
from harness.samplers import Random
from harness.schedulers import Full
from sam2lora.augments import Augment, Flips, Fundus, NoAugment
from sam2lora.config import TrialConfig
from sam2lora.defaults import BASE


def space(trial: optuna.Trial) -> TrialConfig:
    """None, mirror images, or the fundus augmentation with the strength of its geometry and of its colours."""
    match str(trial.suggest_categorical("augmentation", ("none", "flips", "fundus"))):
        case "none":
            augment: Augment = NoAugment()
        case "flips":
            augment = Flips()
        case _:
            turn = trial.suggest_float("geometry", 0.0, 2.0)
            colour = trial.suggest_float("colour", 0.0, 2.0)
            augment = Fundus(
                degrees=15.0 * turn,
                scale=0.1 * turn,
                brightness=0.2 * colour,
                contrast=0.2 * colour,
                gamma=0.2 * colour,
                hue=0.02 * colour,
            )
    return replace(BASE, augment=augment)


# Drawn without looking at scores and never stopped, so that levels can be compared.
SEARCH = Search(space, trials=30, sampler=Random(), scheduler=Full())
