"""Which loss, adapter and optimizer settings carry over together?"""

from __future__ import annotations

from dataclasses import replace

import optuna

from harness.experiments.search import Search
from harness.experiments.simplex import suggest_simplex
from sam2lora.adapters import LoRA
from sam2lora.config import TrialConfig
from sam2lora.defaults import BASE
from sam2lora.losses import BCE, ClDice, FocalTversky, Loss, SoftDice
from sam2lora.optimizers import AdamW


def space(trial: optuna.Trial) -> TrialConfig:
    """Four loss weights on the simplex, the shape of focal Tversky, rank and targets, learning rate, weight decay."""
    tversky = FocalTversky(
        alpha=trial.suggest_float("tversky alpha", 0.3, 0.9), gamma=trial.suggest_float("tversky gamma", 0.5, 2.0)
    )
    losses: dict[str, Loss] = {"bce": BCE(), "soft_dice": SoftDice(), "focal_tversky": tversky, "cldice": ClDice()}
    rank = trial.suggest_int("rank", 2, 32, log=True)
    return replace(
        BASE,
        loss=suggest_simplex(trial, losses),
        adapters=(
            LoRA(
                encoder=trial.suggest_categorical("encoder", ("qkv", "qv", "mlp", "all")),  # type: ignore[arg-type]
                decoder=trial.suggest_categorical("decoder", ("attention", "none")),  # type: ignore[arg-type]
                rank=rank,
                alpha=2.0 * rank,
            ),
        ),
        optimizer=AdamW(
            lr=trial.suggest_float("lr", 3e-4, 1e-2, log=True),
            weight_decay=trial.suggest_float("weight decay", 1e-5, 1e-1, log=True),
        ),
        clip_norm=trial.suggest_float("clip norm", 0.1, 10.0, log=True),
    )


SEARCH = Search(space, trials=60)
