"""Which prompt in training serves which prompt in testing, and does leaving it out now and then help?"""

from __future__ import annotations

from dataclasses import replace

import optuna

from harness.experiments.search import Search
from harness.samplers import Random
from harness.schedulers import Full
from sam2lora.config import TrialConfig
from sam2lora.defaults import BASE
from sam2lora.prompts import PAPER_MODES

_PROMPTS = ("none", "1 point", "5 points", "box", "points + box")


def space(trial: optuna.Trial) -> TrialConfig:
    """The prompt in training, the share of batches that go without it, and the prompt in testing."""
    train = str(trial.suggest_categorical("train prompt", _PROMPTS))
    test = str(trial.suggest_categorical("test prompt", _PROMPTS))
    dropout = 0.0 if train == "none" else float(trial.suggest_categorical("prompt dropout", (0.0, 0.25, 0.5)))
    return replace(BASE, train_prompt=PAPER_MODES[train], test_prompt=PAPER_MODES[test], prompt_dropout=dropout)


# Drawn without looking at scores and never stopped, so that levels can be compared.
SEARCH = Search(space, trials=40, sampler=Random(), scheduler=Full())
