"""``python -m harness.ablate NAME``: a designed experiment, which parts of SAM 2 + LoRA matter on unseen hospitals."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

from rich.console import Console

from harness.cli import options
from harness.experiments import declarations
from sam2lora.cli.options import positive
from sam2lora.cli.parser import Parser

_UNITS = {"s": 1, "m": 60, "h": 3600}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = Parser(
        prog="python -m harness.ablate",
        description="Run every arm of an ablation in every replicate, with the same draws and folds, and report which "
        "components matter. Run the same command again to continue. More --replicates extend the study, which is a "
        "further look with little error rate left: to decide with few replicates, plan the looks with --until-decided.",
        epilog=f"Ablations: {', '.join(declarations.names('ablations'))}.",
    )
    command.add_argument("name", metavar="NAME", help="a file of ablations/, without .py")
    options.add_question(command)
    runner = options.add_run(command, "the arms, their differences and the number of trials")
    runner.add_argument(
        "--replicates", type=positive, metavar="N", help="replicates of every arm, counted over all runs"
    )
    runner.add_argument(
        "--until-decided",
        action="store_true",
        help="add replicates to arms with an open verdict, with one error rate for all looks",
    )
    runner.add_argument(
        "--budget", type=seconds, metavar="T", help="time after which --until-decided adds no more: seconds, 30m or 2h"
    )
    runner.add_argument(
        "--tuned",
        type=positive,
        metavar="N",
        help="tune each arm's learning rate and weight decay with N trials first, and compare the tuned arms",
    )
    return command


def seconds(text: str) -> float:
    """``90``, ``90s``, ``30m`` or ``2h`` in seconds, or argparse's error."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    if not number.isdecimal() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"must be a time such as 3600, 30m or 2h, but is {text!r}")
    return float(int(number) * _UNITS[unit])


def main(argv: Sequence[str] | None = None) -> int:
    """Run an ablation from the command line; returns the exit status."""
    typed = list(sys.argv[1:] if argv is None else argv)
    arguments = parser().parse_args(typed)
    console = Console(stderr=True)

    def run() -> bool:
        if arguments.budget is not None and not arguments.until_decided:
            raise ValueError(
                "--budget limits the replicates that --until-decided adds, but there are none: add --until-decided."
            )
        declarations.check(arguments.name, "ablations")
        with console.status("loading torch, Ray, Optuna and MLflow"):
            from harness.execution import ablations, dry_run, ray_cluster  # seconds, so after what needs no torch
            from harness.execution.plan import plan_studies
            from harness.record.arm_studies import tuned_study
            from harness.reports import build
            from harness.reports.ablation import across_models
        declared = declarations.ablation(arguments.name)
        if arguments.replicates is not None:
            declared = declared.repeated(arguments.replicates)
        plans = plan_studies(arguments, options.command("harness.ablate", typed), declared.base.protocol)
        chosen = ablations.AblationOptions(arguments.tuned or 0, arguments.until_decided, arguments.budget)
        planned = [(plan, replace(declared, base=plan.overrides.apply(declared.base))) for plan in plans]
        title = declarations.question_of(arguments.name, "ablations")
        if arguments.dry_run:
            for plan, ablation in planned:
                dry_run.show_ablation(plan, ablation, title, chosen, Console())
            return True
        first = plans[0]
        report = partial(build.conclude, tracking=first.tracking)
        with ray_cluster.running() if len(plans) > 1 or chosen.tuning_trials else nullcontext():
            for plan, ablation in planned:
                if not ablations.run_ablation(plan, ablation, title, chosen, report, console):
                    return False
        if len(plans) > 1:
            studies = [tuned_study(plan.study) if chosen.tuning_trials else plan.study for plan in plans]
            frame = across_models.summary(first.storage, studies, first.out)
            folder = first.out / (arguments.study or arguments.name)
            build.summarize_studies(frame, across_models.markdown(frame), folder, console)
        return True

    return options.carried_out(run, console)


if __name__ == "__main__":
    sys.exit(main())
