"""An ablation from its plan to its report: arms x replicates, queued into the path of a search."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import optuna
from rich.console import Console

from harness.execution import sequential
from harness.execution.arm_tuning import tune_arms
from harness.execution.cells import cells, crashed, missing, parameters, proposing
from harness.execution.plan import Plan
from harness.execution.reuse import OtherStudies
from harness.execution.runner import Report, Study, announce, carry_out, exclusive, ready
from harness.execution.sources import Queued
from harness.experiments.ablation import Ablation
from harness.experiments.question import ablation_question
from harness.record.arm_studies import tuned_study
from harness.record.storage import open_storage
from harness.record.study import attributes, open_record
from harness.schedulers import Full
from harness.stats.sequential import Looks
from sam2lora.cli.messages import say, warn
from sam2lora.config import TrialConfig


@dataclass(frozen=True)
class AblationOptions:
    """How far an ablation goes beyond its declared replicates, and how its arms get their settings.

    ``tuning_trials``: of the search of each arm, 0 for settings as declared. ``until_decided``: whether replicates are
    added; ``budget``: seconds after which none are, None for no limit.
    """

    tuning_trials: int = 0
    until_decided: bool = False
    budget: float | None = None


def run_ablation(
    plan: Plan, ablation: Ablation, title: str, options: AblationOptions, report: Report, console: Console
) -> bool:
    """Run an ablation, which ``title`` puts in words.

    True when all its trials have ended, crashed ones included, False after an interruption.

    ``ablation`` holds what the command line put in place of its declaration. Raises as
    ``harness.execution.searches.run_search`` does.
    """
    started, settings = time.monotonic(), ablation.settings
    if options.tuning_trials:
        tuned = tune_arms(plan, ablation, options.tuning_trials, report, console)
        if tuned is None:
            return False
        plan, settings = replace(plan, study=tuned_study(plan.study)), tuned
    with exclusive(plan):
        finished = _ablate(plan, ablation, title, settings, options, report, console, started)
    if finished:
        say(console, f"{time.monotonic() - started:.0f} s.")
    return finished


def _ablate(
    plan: Plan,
    ablation: Ablation,
    title: str,
    settings: Mapping[str, TrialConfig],
    options: AblationOptions,
    report: Report,
    console: Console,
    started: float,
) -> bool:
    configs = list(settings.values())
    prepared, slots, runtime = ready(plan, configs, ablation.replicates.all(), console)
    asked = ablation_question(plan.name, ablation, prepared.digests, settings, options.tuning_trials)
    question = {**asked, **prepared.remarks}
    before = attributes(open_storage(plan.storage), plan.study)
    sequential.plan(Looks.of(before.get("looks", {})), ablation, adding=options.until_decided)  # or refused in time
    never = optuna.samplers.RandomSampler(seed=0)  # every parameter comes from the queue
    record = open_record(
        plan.storage, plan.study, plan.out, question, never, plan.command, growing="ablation.replicates"
    )
    declared = cells(ablation)
    queue = missing(record, declared)
    deadline = None if options.budget is None else started + options.budget
    more = sequential.InterimLooks(record, ablation, console, options.until_decided, deadline, set(queue))
    more.begin(before)
    queued = parameters(queue)
    if not queue and not any(trial.resumable for trial in record.trials()):
        queued = [dict(one) for one in more()]
    study = Study(record, question, prepared, slots, runtime, proposing(settings), others=OtherStudies(record))
    source = Queued(record, len(declared) + len(queued) - len(queue), queued, more)
    announce(plan, title, study, source, [config.test_prompt.oracle for config in configs], console)
    finished = carry_out(plan, study, [(source, Full())], report, console)
    if finished and (lost := crashed(record, declared)):
        named = "; ".join(map(str, lost[:5])) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        warn(
            console,
            f"{len(lost)} of the trials crashed: {named}. The report compares the arms without them; run the same "
            f"command again to retry them.",
        )
    return finished
