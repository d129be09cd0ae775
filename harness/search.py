"""``python -m harness.search NAME``: search the settings of SAM 2 + LoRA across fundus data sets."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from rich.console import Console

from harness.cli import options
from harness.experiments import declarations
from harness.samplers import Sampler
from harness.schedulers import Scheduler
from sam2lora.choice import kinds
from sam2lora.commands.options import positive, seed
from sam2lora.commands.parser import Parser


def parser() -> argparse.ArgumentParser:
    """The command line. Whatever changes the question is recorded in the study; devices and folders are not."""
    names = ", ".join(declarations.names("search_spaces"))
    command = Parser(
        prog="python -m harness.search",
        description="Search the settings of SAM 2 + LoRA: Ray Tune runs the trials, Optuna proposes them, MLflow "
        "shows them. Run the same command again to go on with a study.",
        epilog=f"Searches: {names}.",
    )
    command.add_argument("name", metavar="NAME", help="a file of search_spaces/, without .py")
    question = options.add_question(command)
    question.add_argument("--sampler", choices=list(kinds(Sampler)), help="who proposes trials")
    question.add_argument("--scheduler", choices=list(kinds(Scheduler)), help="who stops trials early")
    question.add_argument("--seed", type=seed, metavar="N", help="of the sampler and of every trial")
    runner = options.add_run(command)
    runner.add_argument("--trials", type=positive, metavar="N", help="trials of the study in all runs together")
    runner.add_argument(
        "--probe",
        type=positive,
        metavar="N",
        help="space-filling trials beside those of the sampler, in all runs together: it never sees them, nobody stops "
        "them, and they can say which settings mattered",
    )
    runner.add_argument(
        "--no-references",
        action="store_true",
        help="leave out the declared defaults and the frozen model, one trial each beside --trials, with which the "
        "report compares the best settings",
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
            from harness.execution import runner  # seconds, so after all that can be refused without them
            from harness.experiments import search  # seconds, so after all that can be refused without them
        asked = runner.searched(arguments)
        protocol = search.draws(asked.space, 1)[0][0].protocol
        plans = runner.plans(arguments, f"python -m harness.search {shlex.join(typed)}", protocol)
        return runner.searches(plans, asked, arguments.study or arguments.name, console)

    return options.carried_out(run, console)


if __name__ == "__main__":
    sys.exit(main())
