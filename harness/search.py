"""``python -m harness.search NAME``: search the settings of SAM 2 + LoRA across fundus data sets."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import optuna
from rich.console import Console
from rich.markup import escape

from harness import declared
from harness.errors import HarnessError
from harness.samplers import Sampler
from harness.schedulers import Scheduler
from sam2lora.choice import kinds
from sam2lora.datasets.pairs import Target
from sam2lora.errors import Sam2LoraError
from sam2lora.protocols import Protocol

REFUSED = 2
INTERRUPTED = 130
"""Exit status after SIGINT, by the shell's convention."""


def parser() -> argparse.ArgumentParser:
    """The command line. Whatever changes the question is recorded in the study; devices and folders are not."""
    names = ", ".join(declared.searches())
    command = argparse.ArgumentParser(
        prog="python -m harness.search",
        description="Search the settings of SAM 2 + LoRA: Ray Tune runs the trials, Optuna proposes them, MLflow "
        "shows them. Run the same command again to go on with a study.",
        epilog=f"Searches: {names}.",
    )
    command.add_argument("name", metavar="NAME", help="a file of search_spaces/, without .py")
    question = command.add_argument_group("the question (recorded; a study is not continued under another value)")
    question.add_argument(
        "--sources", metavar="A,B", help="data sets to train and validate on, each NAME[:FIELD=VALUE]..."
    )
    question.add_argument("--targets", metavar="C,D", help="data sets to judge on, never seen in training")
    question.add_argument(
        "--protocol",
        choices=list(kinds(Protocol)),
        help="who trains and who judges: transfer and few_shot take --sources and --targets, the others --datasets; "
        "per_dataset and leave_one_dataset_out run one study for each data set (default: as declared)",
    )
    question.add_argument("--datasets", metavar="A,B,C", help="data sets of a protocol that has no sources and targets")
    question.add_argument(
        "--shots", type=positive, metavar="K", help="patients of each target that join the training (few_shot)"
    )
    question.add_argument(
        "--structure", choices=get_args(Target), help="what to segment in every data set (the disc contains the cup)"
    )
    question.add_argument(
        "--backbone",
        metavar="B",
        help="nano, tiny, small, base+ or large (the last four are SAM 2.1, downloaded on first use; tiny@2.0: SAM 2), "
        "unet or unet:ENCODER (a U-Net that is trained whole, without an adapter)",
    )
    question.add_argument("--checkpoint", metavar="FILE", help="weights as Meta distributes them, or the word 'random'")
    question.add_argument("--epochs", type=positive, metavar="N", help="epochs of a trial that is not stopped")
    question.add_argument(
        "--image-size", type=positive, metavar="N", help="side of the model's square frame, in pixels"
    )
    question.add_argument("--sampler", choices=list(kinds(Sampler)), help="who proposes trials")
    question.add_argument("--scheduler", choices=list(kinds(Scheduler)), help="who stops trials early")
    question.add_argument("--seed", type=int, metavar="N", help="of the sampler and of every trial")
    run = command.add_argument_group("the run (free to change)")
    run.add_argument("--data", type=Path, metavar="ROOT", help="folder of the data sets, in their owners' layouts")
    run.add_argument("--trials", type=positive, metavar="N", help="trials of the study in all runs together")
    run.add_argument("--study", metavar="STUDY", help="name of the study (default: NAME)")
    run.add_argument(
        "--gpus-per-trial", type=float, metavar="F", help="share of a GPU for each trial (default: 1 if there is one)"
    )
    run.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="results (default: runs)")
    run.add_argument("--storage", metavar="URL", help="database of the record (default: sqlite:///DIR/optuna.db)")
    return command


def positive(text: str) -> int:
    """An integer of 1 or more, or argparse's error."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more, but is {text!r}")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a search from the command line; returns the exit status."""
    typed = list(sys.argv[1:] if argv is None else argv)
    arguments = parser().parse_args(typed)
    console = Console(stderr=True)
    _hush()
    try:
        declared.check(arguments.name)
        with console.status("loading torch, Ray, Optuna and MLflow"):
            from harness import run  # seconds, so after all that can be refused without them
        plans = run.plans(arguments, f"python -m harness.search {shlex.join(typed)}")
        done = run.searches(plans, arguments.study or arguments.name, console)
    except (HarnessError, Sam2LoraError, ValueError) as error:
        console.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        return REFUSED
    except KeyboardInterrupt:
        done = False
    if not done:
        console.print("Interrupted. Run the same command again to go on from the last epoch of every trial.")
        return INTERRUPTED
    return 0


def _hush() -> None:
    """One voice on the terminal: what libraries log about their own work is left to their log levels."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message="Clip non-finite values")  # the worst values are infinite on purpose


if __name__ == "__main__":
    sys.exit(main())
