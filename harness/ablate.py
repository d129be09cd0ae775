"""``python -m harness.ablate NAME``: a designed experiment, which parts of SAM 2 + LoRA matter on unseen hospitals."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

from rich.console import Console

from harness.cli import options
from harness.experiments import declarations
from sam2lora.commands.options import positive
from sam2lora.commands.parser import Parser

_UNITS = {"s": 1, "m": 60, "h": 3600}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = Parser(
        prog="python -m harness.ablate",
        description="Run every arm of an ablation in every replicate, with the same draws and folds, and say which "
        "parts matter. Run the same command again to go on; with more --replicates the study grows, "
        "which is a further look with little error left: to be decided with few, plan looks with --until-decided.",
        epilog=f"Ablations: {', '.join(declarations.names('ablations'))}.",
    )
    command.add_argument("name", metavar="NAME", help="a file of ablations/, without .py")
    options.add_question(command)
    runner = options.add_run(command)
    runner.add_argument(
        "--replicates", type=positive, metavar="N", help="runs of every arm, in all runs of the command together"
    )
    runner.add_argument(
        "--until-decided",
        action="store_true",
        help="add replicates to arms whose verdict is open, with the error rate kept over all looks",
    )
    runner.add_argument(
        "--budget", type=seconds, metavar="T", help="add none after so long: seconds, or 30m, or 2h (--until-decided)"
    )
    runner.add_argument(
        "--tuned",
        type=positive,
        metavar="N",
        help="search each arm's learning rate and weight decay with N trials first, and compare the arms at their best",
    )
    runner.add_argument(
        "--dry-run", action="store_true", help="print the arms, their differences and the number of trials, and end"
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
            raise ValueError("--budget ends the adding of replicates, but none are added: add --until-decided.")
        declarations.check(arguments.name, "ablations")
        with console.status("loading torch, Ray, Optuna and MLflow"):
            from harness.execution import (  # seconds, so after all that can be refused without them
                ablations,
                ray_tune,
                runner,
            )
        asked = declarations.ablation(arguments.name)
        if arguments.replicates is not None:
            asked = asked.repeated(arguments.replicates)
        plans = runner.plans(arguments, f"python -m harness.ablate {shlex.join(typed)}", asked.base.protocol)
        ways = ablations.Ways(arguments.tuned or 0, arguments.until_decided, arguments.budget)
        owns = [replace(asked, base=plan.overrides.apply(asked.base)) for plan in plans]
        if arguments.dry_run:
            for plan, own in zip(plans, owns, strict=True):
                ablations.show(plan, own, ways, Console())
            return True
        with ray_tune.started() if len(plans) > 1 or ways.tuned else nullcontext():
            for plan, own in zip(plans, owns, strict=True):
                if not ablations.ablate(plan, own, ways, console):
                    return False
        if len(plans) > 1:
            ablations.summarise(plans, ways, arguments.study or arguments.name, console)
        return True

    return options.carried_out(run, console)


if __name__ == "__main__":
    sys.exit(main())
