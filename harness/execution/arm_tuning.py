"""``--tuned N``: a search for each arm's best learning rate and weight decay, before the arms are compared."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import optuna
from rich.console import Console

from harness.designs.changes import within
from harness.errors import OtherQuestion, TooManyFailures
from harness.execution import searches
from harness.execution.plan import Plan
from harness.execution.runner import Report
from harness.experiments.ablation import Ablation
from harness.experiments.overrides import Overrides
from harness.experiments.search import Search
from harness.experiments.space import Space
from harness.record.arm_studies import arm_study, tuned_study, tuning, within_budget
from harness.record.storage import open_storage
from harness.record.study import attributes
from harness.record.table import StudyTable
from harness.record.trials import best, read_trials
from harness.samplers import Random
from harness.schedulers import Full
from harness.tracking.tracker import Conclusion
from sam2lora.adapters import count
from sam2lora.choice import from_json
from sam2lora.cli.messages import say
from sam2lora.config import Replicate, TrialConfig

_LR, _DECAY = "optimizer.lr", "optimizer.weight_decay"
_AROUND = 10.0
"""Learning rates are searched from a tenth to ten times an arm's own."""
REPLICATE = Replicate(seed=1_000_000_007, fold=0)
"""No replicate that is compared has this seed: the best of N trials was lucky with its seed, too."""


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


def tune_arms(
    plan: Plan, ablation: Ablation, trials: int, report: Report, console: Console
) -> dict[str, TrialConfig] | None:
    """The settings of every arm with its best nuisance parameters; None after an interruption.

    Each arm has a study ``STUDY/tune/ARM`` of ``trials`` trials, all run to their end, on `REPLICATE`. They are drawn
    at random, from the same seed for each arm: bands of tuning curves hold for independent draws, and over two numbers
    few samplers do better. The best is chosen by validation on the sources, among the first ``trials`` that ended. An
    arm that trains nothing has nothing to tune.

    Raises ``OtherQuestion`` where the study's replicates ran after another number of trials, ``TooManyFailures`` when
    no trial of an arm completes.
    """

    def quiet_report(table: StudyTable, _: Console) -> Conclusion:
        return report(table, Console(quiet=True))

    free, settings = nuisances(ablation), dict(ablation.settings)
    _check_budget(plan, trials)
    for arm, config in ablation.settings.items():
        if count(config.parts, config.backbone) == 0:
            continue
        tuning_plan = replace(plan, name=tuning(plan.name), study=arm_study(plan.study, arm), overrides=Overrides())
        search = Search(
            space(config, free), trials, sampler=Random(), scheduler=Full(), replicate=REPLICATE, references=False
        )
        title = f"Which learning rate and weight decay suit the arm {arm}?"
        if not searches.run_search(tuning_plan, search, title, quiet_report, console):
            return None
        settings[arm] = _best(tuning_plan, arm, trials, console)
    return settings


def _check_budget(plan: Plan, trials: int) -> None:
    """Refuse another number of trials before any of them is trained."""
    name = tuned_study(plan.study)
    with suppress(KeyError):
        asked = attributes(open_storage(plan.storage), name).get("question", {})
        before = asked.get("ablation", {}).get("tuned", trials)
        if before != trials:
            raise OtherQuestion(
                f"A resumed study must keep its question, but the arms of {name!r} were tuned with "
                f"{before} trials each and --tuned asks for {trials}: name another study with --study, or give "
                f"--tuned {before}."
            )


def _best(plan: Plan, arm: str, budget: int, console: Console) -> TrialConfig:
    trials = read_trials(open_storage(plan.storage), plan.study)
    winner = best(within_budget(trials, budget))
    if winner is None:
        raise TooManyFailures(
            f"An arm must have a completed trial of tuning before it can be compared, but {plan.study} has none among "
            f"{len(trials)}: see why in its report, then run the same command again."
        )
    chosen = ", ".join(f"{name} {value:.3g}" for name, value in winner.params.items())
    say(console, f"{arm}: best validation {winner.values[0]:.3f} of {budget} trials, with {chosen}.")
    return from_json(TrialConfig, winner.config)
