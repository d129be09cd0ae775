"""Which rank of the paper's grid serves which of its seven prompts best?"""

from __future__ import annotations

from dataclasses import replace

import optuna

from harness.experiments.search import Search
from harness.samplers import Grid
from harness.schedulers import Full
from sam2lora.adapters import LoRA
from sam2lora.config import TrialConfig
from sam2lora.defaults import BASE
from sam2lora.prompts import PAPER_MODES

_RANKS = (32, 64, 128, 256, 512, 1024)


def space(trial: optuna.Trial) -> TrialConfig:
    """SAM2LoRA's ranks (alpha = 2 rank) by its test prompts, trained with 5 points; a grid for ``--backbone large``.

    Every combination is a trial of its own. On nano, whose widest layers have fewer channels than most of these ranks,
    the grid runs but asks nothing: an update of such a rank is no longer a low-rank one. "none" is the one prompt that
    an unlabelled image can have; the others are drawn from the ground truth.
    """
    rank = int(trial.suggest_categorical("rank", _RANKS))
    mode = str(trial.suggest_categorical("test prompt", tuple(PAPER_MODES)))
    return replace(
        BASE,
        adapters=(LoRA(rank=rank, alpha=2.0 * rank),),
        train_prompt=PAPER_MODES["5 points"],
        test_prompt=PAPER_MODES[mode],
    )


SEARCH = Search(space, trials=len(_RANKS) * len(PAPER_MODES), sampler=Grid(), scheduler=Full())
