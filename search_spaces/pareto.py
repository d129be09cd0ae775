"""What does a better Dice cost in trained parameters and in training time?"""

from __future__ import annotations

from dataclasses import replace

import optuna

from harness.experiments.search import Search
from harness.samplers import TPE
from harness.schedulers import Full
from sam2lora.adapters import AllBlocks, Blocks, GlobalBlocks, LastBlocks, LoRA
from sam2lora.config import TrialConfig
from sam2lora.defaults import BASE

_BLOCKS: dict[str, Blocks] = {"all": AllBlocks(), "global": GlobalBlocks(), "last 2": LastBlocks(count=2)}


def space(trial: optuna.Trial) -> TrialConfig:
    """Rank, place and blocks, which decide about parameters and seconds, and the learning rate, for Dice."""
    rank = trial.suggest_int("rank", 1, 64, log=True)
    adapter = LoRA(
        encoder=trial.suggest_categorical("encoder", ("qkv", "qv", "mlp", "all")),  # type: ignore[arg-type]
        decoder=trial.suggest_categorical("decoder", ("attention", "none")),  # type: ignore[arg-type]
        blocks=_BLOCKS[str(trial.suggest_categorical("blocks", tuple(_BLOCKS)))],
        rank=rank,
        alpha=2.0 * rank,
    )
    lr = trial.suggest_float("lr", 3e-4, 1e-2, log=True)
    return replace(BASE, adapters=(adapter,), optimizer=replace(BASE.optimizer, lr=lr))


SEARCH = Search(
    space,
    trials=40,
    sampler=TPE(),
    scheduler=Full(),
    objectives=("val/dice", "trainable_parameters", "train_seconds"),
)
