"""How good can an adapter be that trains less than 5 % of the model?"""

from __future__ import annotations

from dataclasses import replace

import optuna

from harness.constraints import TrainableShare
from harness.experiments.search import Search
from harness.schedulers import ASHA
from sam2lora.adapters import LoRA
from sam2lora.config import TrialConfig
from sam2lora.defaults import BASE


def space(trial: optuna.Trial) -> TrialConfig:
    """Rank, encoder and decoder layers, and the learning rate, which decides between ranks."""
    rank = trial.suggest_int("rank", 2, 64, log=True)
    adapter = LoRA(
        encoder=trial.suggest_categorical("encoder", ("qkv", "qv", "mlp", "all")),  # type: ignore[arg-type]
        decoder=trial.suggest_categorical("decoder", ("attention", "none")),  # type: ignore[arg-type]
        rank=rank,
        alpha=2.0 * rank,
    )
    lr = trial.suggest_float("lr", 3e-4, 1e-2, log=True)
    return replace(BASE, adapters=(adapter,), optimizer=replace(BASE.optimizer, lr=lr))


SEARCH = Search(space, trials=30, scheduler=ASHA(grace=3, reduction=2.0), constraints=(TrainableShare(below=0.05),))
