"""``python -m harness.search NAME``: search the settings of SAM 2 + LoRA across fundus data sets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

from rich.console import Console

from harness.cli import options
from harness.experiments import declarations
from harness.samplers import Sampler
from harness.schedulers import Scheduler
from sam2lora.choice import kinds
from sam2lora.cli.options import positive, seed
from sam2lora.cli.parser import Parser


def parser() -> argparse.ArgumentParser:
    """The command line. Whatever changes the question is recorded in the study; devices and folders are not."""
    names = ", ".join(declarations.names("search_spaces"))
    command = Parser(
        prog="python -m harness.search",
        description="Search the settings of SAM 2 + LoRA: Ray Tune runs the trials, Optuna proposes them, MLflow "
        "shows them. Run the same command again to continue a study.",
        epilog=f"Searches: {names}.",
    )
    command.add_argument("name", metavar="NAME", help="a file of search_spaces/, without .py")
    question = options.add_question(command)
    question.add_argument("--sampler", choices=list(kinds(Sampler)), help="what proposes trials")
    question.add_argument("--scheduler", choices=list(kinds(Scheduler)), help="what stops trials early")
    question.add_argument("--seed", type=seed, metavar="N", help="seed of the sampler and of every trial")
    runner = options.add_run(command, "the parameters, their ranges and the number of trials")
    runner.add_argument("--trials", type=positive, metavar="N", help="trials of the study, counted over all runs")
    runner.add_argument(
        "--probe",
        type=positive,
        metavar="N",
        help="further, space-filling trials, counted over all runs: the sampler never sees them and no scheduler "
        "stops them, so they can show which settings matter",
    )
    runner.add_argument(
        "--no-references",
        action="store_true",
        help="skip the two further trials that the report compares the best settings with: the declared defaults and "
        "the frozen model",
    )
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run a search from the command line; returns the exit status."""
    typed = list(sys.argv[1:] if argv is None else argv)
    arguments = parser().parse_args(typed)
    console = Console(stderr=True)

    def run() -> bool:
        declarations.check(arguments.name, "search_spaces")
        with console.status("loading torch, Ray, Optuna and MLflow"):
            from harness.execution import dry_run, ray_cluster, searches  # seconds, so after what needs no torch
            from harness.execution.plan import plan_search, plan_studies
            from harness.experiments.space import typical_settings
            from harness.reports import build
            from harness.reports.search import across_models
        search = plan_search(arguments)
        protocol = typical_settings(search.space).protocol
        plans = plan_studies(arguments, options.command("harness.search", typed), protocol)
        title = declarations.question_of(arguments.name, "search_spaces")
        if arguments.dry_run:
            for plan in plans:
                dry_run.show_search(plan, search, title, Console())
            return True
        first = plans[0]
        report = partial(build.conclude, tracking=first.tracking)
        with ray_cluster.running() if len(plans) > 1 else nullcontext():
            for plan in plans:
                if not searches.run_search(plan, search, title, report, console):
                    return False
        if len(plans) > 1:
            frame = across_models.summary(first.storage, [plan.study for plan in plans], first.out)
            folder = first.out / (arguments.study or arguments.name)
            build.summarize_studies(frame, across_models.markdown(frame), folder, console)
        return True

    return options.carried_out(run, console)


if __name__ == "__main__":
    sys.exit(main())
