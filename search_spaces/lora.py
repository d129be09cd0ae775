"""How much rank, and where, does SAM 2 need for thin vessels?"""

from __future__ import annotations

from dataclasses import replace

import optuna

from harness.experiments.search import Search
from sam2lora.adapters import AllBlocks, Blocks, GlobalBlocks, LastBlocks, LoRA
from sam2lora.config import TrialConfig
from sam2lora.defaults import BASE

_BLOCKS: dict[str, Blocks] = {"all": AllBlocks(), "global": GlobalBlocks(), "last 2": LastBlocks(count=2)}
_PLACES = ("encoder qkv", "encoder qv", "encoder mlp", "encoder all", "decoder", "both qkv", "both qv", "both all")


def space(trial: optuna.Trial) -> TrialConfig:
    """Rank, scale, place and blocks of the adapter, its dropout, and the learning rate, which decides between ranks."""
    place, _, layers = str(trial.suggest_categorical("place", _PLACES)).partition(" ")
    rank = trial.suggest_int("rank", 2, 64, log=True)
    in_encoder = place in ("encoder", "both")
    blocks = str(trial.suggest_categorical("blocks", tuple(_BLOCKS))) if in_encoder else "all"
    adapter = LoRA(
        encoder=layers if in_encoder else "none",  # type: ignore[arg-type]
        decoder="attention" if place in ("decoder", "both") else "none",
        blocks=_BLOCKS[blocks],
        rank=rank,
        alpha=rank * trial.suggest_float("alpha over rank", 0.5, 4.0, log=True),
        dropout=trial.suggest_float("dropout", 0.0, 0.3),
    )
    lr = trial.suggest_float("lr", 3e-4, 1e-2, log=True)
    return replace(BASE, adapters=(adapter,), optimizer=replace(BASE.optimizer, lr=lr))


SEARCH = Search(space, trials=40)
