"""``python -m harness.ablate NAME``: a designed experiment, which parts of SAM 2 + LoRA matter on unseen hospitals."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from harness import declared, options
from harness.options import positive


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m harness.ablate",
        description="Run every arm of an ablation in every replicate, with the same draws and folds, and say which "
        "parts matter. Run the same command again to go on; with more --replicates the study grows.",
        epilog=f"Ablations: {', '.join(declared.names('ablations'))}.",
    )
    command.add_argument("name", metavar="NAME", help="a file of ablations/, without .py")
    options.add_question(command)
    run = options.add_run(command)
    run.add_argument(
        "--replicates", type=positive, metavar="N", help="runs of every arm, in all runs of the command together"
    )
    run.add_argument(
        "--dry-run", action="store_true", help="print the arms, their differences and the number of trials, and end"
    )
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run an ablation from the command line; returns the exit status."""
    typed = list(sys.argv[1:] if argv is None else argv)
    arguments = parser().parse_args(typed)
    console = Console(stderr=True)

    def run() -> bool:
        declared.check(arguments.name, "ablations")
        with console.status("loading torch, Ray, Optuna and MLflow"):
            from harness import ablating, run  # seconds, so after all that can be refused without them
        asked = declared.ablation(arguments.name)
        if arguments.replicates is not None:
            asked = asked.repeated(arguments.replicates)
        plans = run.plans(arguments, f"python -m harness.ablate {shlex.join(typed)}", asked.base.protocol)
        for plan in plans:
            own = replace(asked, base=plan.overrides.apply(asked.base))
            if arguments.dry_run:
                ablating.show(plan, own, Console())
            elif not ablating.ablate(plan, own, console):
                return False
        return True

    return options.carried_out(run, console)


if __name__ == "__main__":
    sys.exit(main())
