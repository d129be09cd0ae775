"""A search from its plan to its report: what a sampler proposes, and apart from it a probe and references."""

from __future__ import annotations

import time
from collections.abc import Mapping

import optuna
from rich.console import Console

from harness.execution import probe as probing
from harness.execution import references
from harness.execution.plan import Plan
from harness.execution.runner import Report, Study, announce, carry_out, exclusive, ready
from harness.execution.sources import Probe, Sampled
from harness.experiments.question import search_question
from harness.experiments.search import Search
from harness.experiments.space import distributions, draws
from harness.record.storage import open_storage
from harness.record.study import open_record, trial_count
from harness.record.trials import reference_of
from harness.schedulers import Full
from harness.text import count
from sam2lora.cli.messages import say
from sam2lora.config import Replicate, TrialConfig


def run_search(plan: Plan, search: Search, title: str, report: Report, console: Console) -> bool:
    """Run a search, which ``title`` puts in words; True when all its trials have ended, False after an interruption.

    Raises ``StudyBusy`` while another process runs it, ``TooManyFailures`` when its trials only crash, ``RecordError``
    and ``DiskError`` when something cannot be written, and whatever ``prepare`` refuses.
    """
    with exclusive(plan):
        return _search(plan, search, title, report, console)


def _search(plan: Plan, search: Search, title: str, report: Report, console: Console) -> bool:
    started = time.monotonic()
    configs, compared = trial_settings(plan, search)
    prepared, slots, runtime = ready(plan, [*configs, *compared.values()], (search.replicate,), console)
    question = {**search_question(plan.name, search, plan.overrides, prepared.digests), **prepared.remarks}
    space = distributions(search.space)
    so_far = trial_count(open_storage(plan.storage), plan.study)
    sampler = search.sampler.build(search.replicate.seed, space, so_far)
    record = open_record(plan.storage, plan.study, plan.out, question, sampler, plan.command, search.objectives)
    record.write(validation={"n": prepared.validation, "clusters": prepared.validating})

    def propose(trial: optuna.Trial) -> tuple[TrialConfig, Replicate]:
        if (name := reference_of(trial)) is not None:
            return compared[name], search.replicate
        return plan.overrides.apply(search.space(trial)), search.replicate

    study = Study(record, question, prepared, slots, runtime, propose, search.constraints)
    limit = search.sampler.limit(space)
    sampled = Sampled(probing.unaware(record), min(search.trials, limit or search.trials), limit)
    points = probing.points(space, search.replicate.seed, search.probe)
    probe = Probe(
        probing.blind(record, search.replicate.seed + so_far),
        search.probe + len(compared),
        probing.missing(record, points),
        references.missing(record, compared),
    )
    oracle = [config.test_prompt.oracle for config in configs]
    apart = f"; in addition {trials_apart(search, compared)}, {probe.ended} done" if probe.trials else ""
    announce(plan, title, study, sampled, oracle, console, apart)
    finished = carry_out(plan, study, [(sampled, search.scheduler), (probe, Full())], report, console)
    if finished:
        say(console, f"{time.monotonic() - started:.0f} s.")
    return finished


def trial_settings(plan: Plan, search: Search) -> tuple[list[TrialConfig], dict[str, TrialConfig]]:
    """Settings that the search may try, sampled from its space, and those of its references by name."""
    configs = [plan.overrides.apply(config) for config, _ in draws(search.space)]
    return configs, references.references(search, plan.overrides, configs[0])


def trials_apart(search: Search, compared: Mapping[str, TrialConfig]) -> str:
    """The trials of a search that its sampler does not propose, in words; empty where there are none."""
    probe = [f"{search.probe} of a probe"] * bool(search.probe)
    return " and ".join(probe + [count(len(compared), "reference")] * bool(compared))
