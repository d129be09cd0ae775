"""An ablation from its plan to its report: arms x replicates, queued into the path of a search."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import optuna
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.execution import runner, sequential
from harness.execution.arm_tuning import nuisances, tuned
from harness.execution.cells import Cell, cells, crashed, left_open, missing, parameters, proposing
from harness.execution.reuse import Elsewhere
from harness.execution.runner import Plan
from harness.execution.searcher import Suggest
from harness.experiments import declarations
from harness.experiments.ablation import Ablation, question
from harness.record import study
from harness.record.arm_studies import tuned_study
from harness.reports.ablation import across_models
from harness.reports.ablation.format import formula
from harness.schedulers import Full
from harness.stats.sequential import Looks
from harness.text import count
from sam2lora.adapters import Frozen
from sam2lora.config import TrialConfig


@dataclass(frozen=True)
class Ways:
    """How far an ablation goes beyond its declared replicates, and how its arms get their settings.

    ``tuned``: trials of every arm's own search, 0 for settings as declared. ``until_decided``: whether replicates are
    added; ``budget``: seconds after which none are, None for no limit.
    """

    tuned: int = 0
    until_decided: bool = False
    budget: float | None = None


def ablate(plan: Plan, ablation: Ablation, ways: Ways, console: Console) -> bool:
    """Run an ablation; True when all its trials have ended, crashed ones included, False after an interruption.

    Raises as ``harness.execution.runner.search`` does. ``ablation`` holds what the command line put in place of its
    declaration.
    """
    begun, settings = time.monotonic(), ablation.settings
    if ways.tuned:
        found = tuned(plan, ablation, ways.tuned, console)
        if found is None:
            return False
        plan, settings = replace(plan, study=tuned_study(plan.study)), dict(found)
    return runner.alone(plan, lambda: _ablate(plan, ablation, settings, ways, console, begun))


def _ablate(
    plan: Plan, ablation: Ablation, settings: Mapping[str, TrialConfig], ways: Ways, console: Console, begun: float
) -> bool:
    configs = list(settings.values())
    prepared, room, runtime = runner.ready(plan, configs, ablation.replicates.all(), console)
    asked = {**question(plan.name, ablation, prepared.digests, settings, ways.tuned), **prepared.told}
    before = study.attributes(plan.storage, plan.study)
    sequential.plan(
        Looks.of(before.get(sequential.LOOKS, {})), ablation, adding=ways.until_decided
    )  # or refused in time
    never = optuna.samplers.RandomSampler(seed=0)  # every parameter comes from the queue
    book = study.open_record(
        plan.storage, plan.study, plan.folder, asked, never, plan.command, growing="ablation.replicates"
    )
    wanted = cells(ablation)
    queue = missing(book, wanted)
    deadline = None if ways.budget is None else begun + ways.budget
    more = sequential.Looking(book, ablation, console, ways.until_decided, deadline, set(queue))
    more.begin(before)
    queued = parameters(queue)
    if not queue and not left_open(book):
        queued = [dict(one) for one in more()]
    ask = Suggest(
        book,
        proposing(settings),
        prepared.digests,
        runtime,
        len(wanted) + len(queued) - len(queue),
        queue=queued,
        more=more,
        elsewhere=Elsewhere(book, plan.out),
    )
    title = declarations.question_of(plan.name, "ablations")
    runner.head(console, plan, title, asked, prepared, room, ask, [config.test_prompt.oracle for config in configs])
    finished = runner.carry_out(plan, console, ask, asked, prepared, room, Full())
    if finished:
        _warn(console, crashed(book, wanted))
        console.print(f"{time.monotonic() - begun:.0f} s.", highlight=False)
    return finished


def summarise(plans: Sequence[Plan], ways: Ways, name: str, console: Console) -> None:
    """Print one table over the studies of ``plans``, and write it into the folder of ``name``."""
    studies = [tuned_study(plan.study) if ways.tuned else plan.study for plan in plans]
    frame = across_models.summary(plans[0].storage, studies, plans[0].out)
    runner.conclude(frame, across_models.markdown(frame), plans[0].out / name, console)


def _warn(console: Console, lost: Sequence[Cell]) -> None:
    if lost:
        named = "; ".join(map(str, lost[:5])) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        console.print(
            f"[bold yellow]warning:[/] {len(lost)} of the trials crashed: {escape(named)}. What was compared is what "
            f"the others left; the same command tries them again.",
            highlight=False,
            soft_wrap=True,
        )


def show(plan: Plan, ablation: Ablation, ways: Ways, console: Console) -> None:
    """Print what would run: the arms with their differences, the contrasts, and how many trials."""
    drawn = ablation.replicates.all()
    title = declarations.question_of(plan.name, "ablations")
    console.print(f"[bold]{escape(plan.study)}[/]: {title}", highlight=False, soft_wrap=True)
    arms = Table("arm", "differs from the base in", box=None, pad_edge=False)
    for arm in ablation.arms:
        arms.add_row(escape(arm.name), escape(str(arm)))
    console.print(arms)
    for contrast in ablation.contrasts:
        above, below = formula(contrast)
        console.print(f"{escape(contrast.name)}: {escape(above)} less {escape(below)}", highlight=False, soft_wrap=True)
    base = ablation.base.protocol
    replicates = ", ".join(f"{one.seed}/{one.fold}" for one in drawn)
    console.print(
        f"sources {', '.join(one.name for one in base.sources)}; targets "
        f"{', '.join(one.name for one in base.targets) or 'none'}; by {ablation.primary}, where less than "
        f"{ablation.smallest_of_interest:g} does not matter\n"
        f"{len(ablation.arms)} arms x {len(drawn)} replicates (seed/fold {replicates}) = "
        f"{count(len(ablation.arms) * len(drawn), 'trial')} of {count(ablation.base.epochs, 'epoch')}",
        highlight=False,
        soft_wrap=True,
    )
    if ways.tuned:
        free = " and ".join(nuisances(ablation))
        searches = sum(not isinstance(config.adapter, Frozen) for config in ablation.settings.values())
        total = searches * ways.tuned + len(ablation.arms) * len(drawn)
        console.print(
            f"before them, {ways.tuned} trials of each arm that trains ({searches}), over {free}: "
            f"{count(total, 'trial')} in all",
            highlight=False,
            soft_wrap=True,
        )
    if ways.until_decided:
        looks = ", ".join(map(str, sequential.plan(Looks(), ablation, adding=True).at))
        console.print(f"looks after {looks} replicates, until all is decided", highlight=False, soft_wrap=True)
