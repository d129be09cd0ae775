"""Which layers of encoder and decoder, in which blocks, are worth adapting?"""

from __future__ import annotations

from dataclasses import replace

import optuna

from harness.experiments.search import Search
from harness.samplers import Random
from harness.schedulers import Full
from sam2lora.adapters import AllBlocks, Blocks, GlobalBlocks, LastBlocks, LoRA
from sam2lora.config import TrialConfig
from sam2lora.defaults import BASE

_BLOCKS: dict[str, Blocks] = {"all": AllBlocks(), "global": GlobalBlocks(), "last 2": LastBlocks(count=2)}


def space(trial: optuna.Trial) -> TrialConfig:
    """Encoder layers, their blocks and decoder layers at one rank; nowhere at all is the frozen model, the floor."""
    encoder = str(trial.suggest_categorical("encoder", ("qkv", "qv", "proj", "mlp", "all", "none")))
    decoder = str(trial.suggest_categorical("decoder", ("attention", "all", "none")))
    if encoder == decoder == "none":
        return replace(BASE, adapters=())
    blocks = "all" if encoder == "none" else str(trial.suggest_categorical("blocks", tuple(_BLOCKS)))
    adapter = LoRA(
        encoder=encoder,  # type: ignore[arg-type]
        decoder=decoder,  # type: ignore[arg-type]
        blocks=_BLOCKS[blocks],
        rank=8,
        alpha=16.0,
    )
    return replace(BASE, adapters=(adapter,))


# Drawn without looking at scores and never stopped, so that levels can be compared.
SEARCH = Search(space, trials=40, sampler=Random(), scheduler=Full())
