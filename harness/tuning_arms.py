"""``--tuned N``: every arm gets a search of its own over what it should not lose by, before it is compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import optuna
from rich.console import Console

from harness import record, run
from harness.ablation import Ablation
from harness.designs.changes import within
from harness.errors import Hopeless
from harness.run import Plan
from harness.samplers import TPE
from harness.schedulers import Full
from harness.study import Overrides, Search, Space
from sam2lora.adapters import Frozen
from sam2lora.choice import from_json
from sam2lora.config import TrialConfig

_LR, _DECAY = "optimizer.lr", "optimizer.weight_decay"
_AROUND = 10.0
"""Learning rates are searched from a tenth to ten times an arm's own."""


def nuisances(ablation: Ablation) -> tuple[str, ...]:
    """The paths that are tuned: learning rate and weight decay, less what the arms are about.

    Raises ``ValueError`` when nothing is left.
    """
    asked = {path for arm in ablation.arms for path in arm.differs}
    free = tuple(path for path in (_LR, _DECAY) if not any(within(path, one) for one in asked))
    if not free:
        raise ValueError(
            "Tuning varies the learning rate and the weight decay, but the arms differ in both: leave --tuned out."
        )
    return free


def space(config: TrialConfig, free: tuple[str, ...]) -> Space:
    """The settings of an arm with the ``free`` paths drawn on logarithmic scales."""

    def drawn(trial: optuna.Trial) -> TrialConfig:
        optimizer = config.optimizer
        if _LR in free:
            low, high = optimizer.lr / _AROUND, optimizer.lr * _AROUND
            optimizer = replace(optimizer, lr=trial.suggest_float("lr", low, high, log=True))
        if _DECAY in free:
            optimizer = replace(optimizer, weight_decay=trial.suggest_float("weight decay", 1e-5, 1e-1, log=True))
        return replace(config, optimizer=optimizer)

    return drawn


def tuned(plan: Plan, ablation: Ablation, trials: int, console: Console) -> Mapping[str, TrialConfig] | None:
    """The settings of every arm with its best nuisance parameters; None after an interruption.

    Each arm has a study ``STUDY/tune/ARM`` of ``trials`` trials, all run to their end, on the first replicate; TPE
    proposes, from the same seed for each. The best is chosen by validation on the sources. An arm that trains nothing
    has nothing to tune. Raises ``Hopeless`` when no trial of an arm completes.
    """
    free, found = nuisances(ablation), dict(ablation.settings)
    for arm, config in ablation.settings.items():
        if isinstance(config.adapter, Frozen):
            continue
        own = replace(plan, name=f"{plan.name}/tune", study=f"{plan.study}/tune/{arm}", overrides=Overrides())
        search = Search(
            space(config, free), trials, sampler=TPE(), scheduler=Full(), replicate=ablation.replicates.at(0)
        )
        if not run.search(own, search, f"Which learning rate and weight decay suit the arm {arm}?", console):
            return None
        found[arm] = _best(own)
    return found


def _best(plan: Plan) -> TrialConfig:
    trials = optuna.load_study(storage=record.open_storage(plan.storage), study_name=plan.study).trials
    completed = [trial for trial in trials if trial.user_attrs.get("outcome", {}).get("kind") == "completed"]
    if not completed:
        raise Hopeless(
            f"An arm must have a completed trial of tuning before it can be compared, but {plan.study} has none among "
            f"{len(trials)}: see why in its report, then run the same command again."
        )
    best = max(completed, key=lambda trial: (trial.values[0], -trial.number))
    return from_json(TrialConfig, best.user_attrs["config"])
