"""What the commands that run trials share: options, one voice on the terminal, and how an error ends a command."""

from __future__ import annotations

import argparse
import logging
import math
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import optuna
from rich.console import Console

from harness.errors import HarnessError
from sam2lora.choice import kinds
from sam2lora.commands.options import add_asked, add_side, positive, refuse, stoppable
from sam2lora.errors import Sam2LoraError
from sam2lora.protocols import Protocol


def add_question(command: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Options that change what is asked; the group, for more of the kind."""
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
    add_asked(question)
    question.add_argument("--checkpoint", metavar="FILE", help="weights as Meta distributes them, or the word 'random'")
    question.add_argument("--epochs", type=positive, metavar="N", help="epochs of a trial that is not stopped")
    add_side(question)
    return question


def add_run(command: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Options that change where and how far, but not what is asked; the group, for more of the kind."""
    run = command.add_argument_group("the run (free to change)")
    run.add_argument("--data", type=Path, metavar="ROOT", help="folder of the data sets, in their owners' layouts")
    run.add_argument("--study", type=study, metavar="STUDY", help="name of the study (default: NAME)")
    run.add_argument(
        "--gpus-per-trial",
        type=share,
        metavar="F",
        help="share of a GPU for each trial; 0: the CPU (default: an eighth of a GPU if there is one, all of it with "
        "--no-pack)",
    )
    run.add_argument(
        "--pack",
        action=argparse.BooleanOptionalAction,
        help="trials of one GPU or CPU core share an engine and train in lock-step where that is faster, or each has a "
        "process of its own (default: LoRA on a GPU is packed)",
    )
    run.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="results (default: runs)")
    run.add_argument("--storage", metavar="URL", help="database of the record (default: sqlite:///DIR/optuna.db)")
    return run


def study(text: str) -> str:
    """A name that is a folder below the results as well as a name in the record and in MLflow, or argparse's error."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.,=+@%() -]*", text, re.ASCII):
        raise argparse.ArgumentTypeError(
            f"must begin with a letter or a digit and go on with these, spaces and _ . , = + @ % ( ) -, but is {text!r}"
        )
    return text


def share(text: str) -> float:
    """A finite number of 0 or more, or argparse's error."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of 0 or more, such as 0.125 or 1, but is {text!r}")
    return value


def carried_out(run: Callable[[], bool], console: Console) -> int:
    """The exit status of a command: what a person can mend is one message, an interruption says how to go on.

    ``run`` returns False when it was interrupted.
    """
    _hush()
    with stoppable() as stop:
        try:
            done = run()
        except (HarnessError, Sam2LoraError, ValueError) as error:
            return refuse(console, error)
        except KeyboardInterrupt:
            done = False
    if not done:
        console.print(
            "Interrupted. Run the same command again to go on from the last epoch of every trial.", soft_wrap=True
        )
        return stop.status
    return 0


def _hush() -> None:
    """One voice on the terminal: what libraries log about their own work is left to their log levels."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message="Clip non-finite values")  # the worst values are infinite on purpose
