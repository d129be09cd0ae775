"""An ablation from its plan to its report: arms x replicates, queued into the path of a search."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness import declared, record, run
from harness.ablation import Ablation, question
from harness.record import Record
from harness.run import Plan
from harness.schedulers import Full
from harness.suggest import Propose, Suggest
from harness.taken import Elsewhere
from sam2lora.config import Replicate, TrialConfig

_SEEDS = 2**31 - 1


@dataclass(frozen=True, order=True)
class Cell:
    """An arm in a replicate: one trial."""

    arm: str
    seed: int
    fold: int

    def __str__(self) -> str:
        return f"{self.arm}, seed {self.seed}, fold {self.fold}"


def cells(ablation: Ablation) -> list[Cell]:
    """Every arm in the first replicate, then every arm in the second, and so on: what stops early is balanced."""
    replicates = ablation.replicates.all()
    return [Cell(arm, one.seed, one.fold) for one in replicates for arm in ablation.settings]


def proposing(settings: Mapping[str, TrialConfig]) -> Propose:
    """Looks up settings and replicate of a trial by its parameters arm, seed and fold."""

    def propose(trial: optuna.Trial) -> tuple[TrialConfig, Replicate]:
        arm = str(trial.suggest_categorical("arm", tuple(settings)))
        seed = trial.suggest_int("seed", 0, _SEEDS)
        fold = trial.suggest_int("fold", 0, 4)
        return settings[arm], Replicate(seed=seed, fold=fold)  # type: ignore[arg-type]

    return propose


def parameters(wanted: Iterable[Cell]) -> list[dict[str, Any]]:
    """The cells as the parameters of their trials."""
    return [{"arm": cell.arm, "seed": cell.seed, "fold": cell.fold} for cell in wanted]


def missing(book: Record, declared: Sequence[Cell]) -> list[Cell]:
    """The cells without an ending that stands and without a trial that an earlier run left open, in their order."""
    ended = set(_cells(book, (TrialState.COMPLETE, TrialState.PRUNED)))
    return [cell for cell in declared if cell not in ended and cell not in set(_cells(book, (TrialState.RUNNING,)))]


def crashed(book: Record, declared: Sequence[Cell]) -> list[Cell]:
    """The cells that have only crashed so far."""
    failed = set(_cells(book, (TrialState.FAIL,)))
    return [cell for cell in missing(book, declared) if cell in failed]


def _cells(book: Record, states: Sequence[TrialState]) -> Iterator[Cell]:
    for trial in book.trials():
        if trial.state in states and "replicate" in trial.user_attrs:
            yield Cell(**trial.params)


def ablate(plan: Plan, ablation: Ablation, console: Console) -> bool:
    """Run an ablation; True when all its trials have ended, crashed ones included, False after an interruption.

    Raises as ``harness.run.search`` does. ``ablation`` holds what the command line put in place of its declaration.
    """
    return run.alone(plan, lambda: _ablate(plan, ablation, console))


def _ablate(plan: Plan, ablation: Ablation, console: Console) -> bool:
    begun = time.monotonic()
    configs = list(ablation.settings.values())
    prepared, room, runtime = run.ready(plan, configs, ablation.replicates.all(), console)
    asked = {**question(plan.name, ablation, prepared.digests), **prepared.told}
    never = optuna.samplers.RandomSampler(seed=0)  # every parameter comes from the queue
    book = record.open_record(
        plan.storage, plan.study, plan.folder, asked, never, plan.command, growing="ablation.replicates"
    )
    wanted = cells(ablation)
    ask = Suggest(
        book,
        proposing(ablation.settings),
        prepared.digests,
        runtime,
        len(wanted),
        queue=parameters(missing(book, wanted)),
        elsewhere=Elsewhere(book, plan.out),
    )
    title = declared.question_of(plan.name, "ablations")
    run.head(console, plan, title, asked, prepared, room, ask, [config.test_prompt.oracle for config in configs])
    finished = run.carry_out(plan, console, ask, asked, prepared, room, Full())
    if finished:
        _warn(console, crashed(book, wanted))
        console.print(f"{time.monotonic() - begun:.0f} s.", highlight=False)
    return finished


def _warn(console: Console, lost: Sequence[Cell]) -> None:
    if lost:
        named = "; ".join(map(str, lost[:5])) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
        console.print(
            f"[bold yellow]warning:[/] {len(lost)} of the trials crashed: {escape(named)}. What was compared is what "
            f"the others left; the same command tries them again.",
            highlight=False,
            soft_wrap=True,
        )


def show(plan: Plan, ablation: Ablation, console: Console) -> None:
    """Print what would run: the arms with their differences, the contrasts, and how many trials."""
    drawn = ablation.replicates.all()
    title = declared.question_of(plan.name, "ablations")
    console.print(f"[bold]{escape(plan.study)}[/]: {title}", highlight=False, soft_wrap=True)
    arms = Table("arm", "differs from the base in", box=None, pad_edge=False)
    for arm in ablation.arms:
        arms.add_row(escape(arm.name), escape(str(arm)))
    console.print(arms)
    for contrast in ablation.contrasts:
        terms = " ".join(f"{weight:+.3g} ({arm})" for arm, weight in contrast.weights.items())
        console.print(f"{escape(contrast.name)}: {escape(terms)}", highlight=False, soft_wrap=True)
    base = ablation.base.protocol
    replicates = ", ".join(f"{one.seed}/{one.fold}" for one in drawn)
    console.print(
        f"sources {', '.join(one.name for one in base.sources)}; targets "
        f"{', '.join(one.name for one in base.targets) or 'none'}; by {ablation.primary}, where less than "
        f"{ablation.smallest_of_interest:g} does not matter\n"
        f"{len(ablation.arms)} arms x {len(drawn)} replicates (seed/fold {replicates}) = "
        f"{len(ablation.arms) * len(drawn)} trials of {ablation.base.epochs} epochs",
        highlight=False,
        soft_wrap=True,
    )
