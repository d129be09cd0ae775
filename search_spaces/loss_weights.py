"""Which mixture of the loss carries over to a hospital that the model has not seen?"""

from __future__ import annotations

from dataclasses import replace

import optuna

from harness.experiments.search import Search
from harness.experiments.simplex import suggest_simplex
from harness.schedulers import ASHA
from sam2lora.config import TrialConfig
from sam2lora.defaults import BASE
from sam2lora.losses import BCE, FocalTversky, SoftDice


def space(trial: optuna.Trial) -> TrialConfig:
    """The weights of BCE, soft Dice and focal Tversky on the simplex, zeros included, and the learning rate."""
    loss = suggest_simplex(trial, {"bce": BCE(), "soft_dice": SoftDice(), "focal_tversky": FocalTversky()})
    lr = trial.suggest_float("lr", 3e-4, 1e-2, log=True)
    return replace(BASE, loss=loss, optimizer=replace(BASE.optimizer, lr=lr))


# One halving, half way: importance is measured on trials that ran to their end, and wants a dozen of them.
SEARCH = Search(space, trials=30, scheduler=ASHA(grace=3, reduction=2.0))
