"""What ``--dry-run`` prints: what a search or an ablation would run, and why trials train alone."""

from __future__ import annotations

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.execution import sequential
from harness.execution.ablations import AblationOptions
from harness.execution.arm_tuning import nuisances
from harness.execution.plan import Plan
from harness.execution.runner import assign_machine
from harness.execution.searches import trial_settings, trials_apart
from harness.experiments.ablation import Ablation
from harness.experiments.search import Search
from harness.experiments.space import distributions
from harness.stats.sequential import Looks
from harness.text import count
from sam2lora.adapters import count as trainable
from sam2lora.cli.messages import say
from sam2lora.config import TrialConfig


def show_search(plan: Plan, search: Search, title: str, console: Console) -> None:
    """Print what a search would run: the parameters with their ranges, and how many trials."""
    configs, compared = trial_settings(plan, search)
    say(console, title, plan.study)
    parameters = Table("parameter", "values", box=None, pad_edge=False)
    for name, distribution in distributions(search.space).items():
        parameters.add_row(escape(name), escape(_values(distribution)))
    console.print(parameters)
    apart = trials_apart(search, compared)
    say(
        console,
        f"{_data(configs[0])}\n{count(search.trials, 'trial')} of {count(configs[0].epochs, 'epoch')}; sampler "
        f"{search.sampler.kind}, scheduler {search.scheduler.kind}{f'; in addition {apart}' if apart else ''}",
    )
    assign_machine(plan, [*configs, *compared.values()], console)


def show_ablation(plan: Plan, ablation: Ablation, title: str, options: AblationOptions, console: Console) -> None:
    """Print what an ablation would run: the arms with their differences, the contrasts, and how many trials."""
    drawn = ablation.replicates.all()
    say(console, title, plan.study)
    arms = Table("arm", "differs from the base in", box=None, pad_edge=False)
    for arm in ablation.arms:
        arms.add_row(escape(arm.name), escape(str(arm)))
    console.print(arms)
    for contrast in ablation.contrasts:
        above, below = contrast.sides()
        say(console, f"{contrast.name}: {above} less {below}")
    replicates = ", ".join(f"{one.seed}/{one.fold}" for one in drawn)
    trials = len(ablation.arms) * len(drawn)
    say(
        console,
        f"{_data(ablation.base)}; by {ablation.primary}, where less than {ablation.smallest_of_interest:g} does not "
        f"matter\n{len(ablation.arms)} arms x {len(drawn)} replicates (seed/fold {replicates}) = "
        f"{count(trials, 'trial')} of {count(ablation.base.epochs, 'epoch')}",
    )
    if options.tuning_trials:
        searches = sum(trainable(config.parts, config.backbone) > 0 for config in ablation.settings.values())
        say(
            console,
            f"before them, {options.tuning_trials} trials of each arm that trains ({searches}), over "
            f"{' and '.join(nuisances(ablation))}: {count(searches * options.tuning_trials + trials, 'trial')} in all",
        )
    if options.until_decided:
        looks = ", ".join(map(str, sequential.plan(Looks(), ablation, adding=True).at))
        say(console, f"looks after {looks} replicates, until all is decided")
    assign_machine(plan, list(ablation.settings.values()), console)


def _data(config: TrialConfig) -> str:
    sides = (config.protocol.sources, config.protocol.targets)
    sources, targets = (", ".join(dataset.name for dataset in datasets) for datasets in sides)
    return f"sources {sources}; targets {targets or 'none'}"


def _values(distribution: BaseDistribution) -> str:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return ", ".join(map(str, choices))
        case FloatDistribution(low=low, high=high, log=log) | IntDistribution(low=low, high=high, log=log):
            return f"{low:g} to {high:g}{', logarithmic' * log}"
        case _:
            return str(distribution)
