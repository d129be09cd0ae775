"""``--tuned N``: every arm gets a search of its own over what it should not lose by, before it is compared."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import optuna
from rich.console import Console
from rich.markup import escape

from harness.designs.changes import within
from harness.errors import Hopeless, OtherQuestion
from harness.execution import runner
from harness.execution.runner import Plan
from harness.experiments.ablation import Ablation
from harness.experiments.search import Overrides, Search, Space
from harness.record import study
from harness.record.arm_studies import best, study_of, tuned_study, within_budget
from harness.samplers import Random
from harness.schedulers import Full
from sam2lora.adapters import Frozen
from sam2lora.choice import from_json
from sam2lora.config import Replicate, TrialConfig

_LR, _DECAY = "optimizer.lr", "optimizer.weight_decay"
_AROUND = 10.0
"""Learning rates are searched from a tenth to ten times an arm's own."""
REPLICATE = Replicate(seed=1_000_000_007, fold=0)
"""Tuning has a seed of its own. The best of N trials was lucky with its seed, too; a replicate that judges must not
inherit that luck."""


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

    Each arm has a study ``STUDY/tune/ARM`` of ``trials`` trials, all run to their end, on `REPLICATE`. They are drawn
    at random, from the same seed for each arm: bands of tuning curves hold for independent draws, and over two numbers
    few samplers do better. The best is chosen by validation on the sources, among the first ``trials`` that ended. An
    arm that trains nothing has nothing to tune.

    Raises ``OtherQuestion`` where the study's replicates ran after another number of trials, ``Hopeless`` when no trial
    of an arm completes.
    """
    free, found = nuisances(ablation), dict(ablation.settings)
    _check_budget(plan, trials)
    for arm, config in ablation.settings.items():
        if isinstance(config.adapter, Frozen):
            continue
        own = replace(plan, name=f"{plan.name}/tune", study=study_of(plan.study, arm), overrides=Overrides())
        search = Search(
            space(config, free), trials, sampler=Random(), scheduler=Full(), replicate=REPLICATE, references=False
        )
        title = f"Which learning rate and weight decay suit the arm {arm}?"
        if not runner.search(own, search, title, console, shown=lambda made, console: None):
            return None
        found[arm] = _best(own, arm, trials, console)
    return found


def _check_budget(plan: Plan, trials: int) -> None:
    """Refuse another number of trials before any of them is trained."""
    name = tuned_study(plan.study)
    with suppress(KeyError):
        attributes = optuna.load_study(storage=study.open_storage(plan.storage), study_name=name).user_attrs
        before = attributes.get("question", {}).get("ablation", {}).get("tuned", trials)
        if before != trials:
            raise OtherQuestion(
                f"Going on with a study must not change its question, but the arms of {name!r} were tuned with "
                f"{before} trials each and --tuned asks for {trials}: name another study with --study, or give "
                f"--tuned {before}."
            )


def _best(plan: Plan, arm: str, budget: int, console: Console) -> TrialConfig:
    trials = optuna.load_study(storage=study.open_storage(plan.storage), study_name=plan.study).trials
    found = best(within_budget(trials, budget))
    if found is None:
        raise Hopeless(
            f"An arm must have a completed trial of tuning before it can be compared, but {plan.study} has none among "
            f"{len(trials)}: see why in its report, then run the same command again."
        )
    chosen = ", ".join(f"{name} {value:.3g}" for name, value in found.params.items())
    told = f"{arm}: best validation {found.values[0]:.3f} of {budget} trials, with {chosen}."
    console.print(escape(told), highlight=False, soft_wrap=True)
    return from_json(TrialConfig, found.user_attrs["config"])
