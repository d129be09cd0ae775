"""What the commands that run trials share: options, quiet libraries, and how an error ends a command."""

from __future__ import annotations

import argparse
import logging
import math
import re
import shlex
import warnings
from collections.abc import Callable, Sequence

import optuna
from rich.console import Console

from harness.errors import HarnessError
from sam2lora.cli.messages import say
from sam2lora.cli.options import add_results, add_weights, interruptible, number, path_option, positive, refuse
from sam2lora.credentials import masked
from sam2lora.environment import check_home, set_defaults
from sam2lora.errors import Sam2LoraError
from sam2lora.protocol_options import add_image_size, add_protocol


def add_question(command: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Options that change what is asked; the group, for more of the kind."""
    question = command.add_argument_group("the question (recorded; a study is not continued under another value)")
    add_protocol(
        question, "; per_dataset and leave_one_dataset_out run one study for each data set (default: as declared)"
    )
    question.add_argument("--checkpoint", metavar="FILE", help="weights as Meta distributes them, or the word 'random'")
    question.add_argument("--epochs", type=positive, metavar="N", help="epochs of a trial that is not stopped")
    add_image_size(question)
    return question


def add_run(command: argparse.ArgumentParser, dry_run: str) -> argparse._ArgumentGroup:
    """Options that change where and how far, but not what is asked; the group, for more of the kind.

    ``dry_run``: what ``--dry-run`` prints.
    """
    run = command.add_argument_group("the run (free to change)")
    run.add_argument(
        "--data", type=path_option, metavar="ROOT", help="folder of the data sets, in their owners' layouts"
    )
    add_weights(run)
    run.add_argument("--study", type=study, metavar="STUDY", help="name of the study (default: NAME)")
    run.add_argument(
        "--gpus-per-trial",
        type=number(lambda value: 0 <= value < math.inf, "a number of 0 or more, such as 0.125 or 1"),
        metavar="F",
        help="share of a GPU for each trial, 0 for the CPU (default: an eighth of a GPU if there is one, a whole one "
        "with --no-pack)",
    )
    run.add_argument(
        "--pack",
        action=argparse.BooleanOptionalAction,
        help="train the trials of a GPU or CPU core in one process, in lock-step where that is faster; --no-pack gives "
        "each trial a process (default: --pack on a GPU where that makes most trials faster)",
    )
    add_results(run, "--out")
    run.add_argument("--dry-run", action="store_true", help=f"print {dry_run}, then exit")
    return run


def command(module: str, typed: Sequence[str]) -> str:
    """The command line of a module, to be recorded and pasted again: as it was typed, without secrets."""
    return shlex.join(["python", "-m", module, *map(masked, typed)])


def study(text: str) -> str:
    """A name that is a folder below the results as well as a name in the record and in MLflow, or argparse's error."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.,=+@%() -]*", text, re.ASCII):
        raise argparse.ArgumentTypeError(
            f"must begin with a letter or a digit and continue with these, spaces and _ . , = + @ % ( ) -, but is "
            f"{text!r}"
        )
    return text


def carried_out(run: Callable[[], bool], console: Console) -> int:
    """The exit status of a command: what a person can fix is one message, an interruption says how to continue.

    ``run`` returns False when it was interrupted.
    """
    _quiet_libraries()
    with interruptible() as stop:
        try:
            check_home()
            done = run()
        except (HarnessError, Sam2LoraError, ValueError) as error:
            return refuse(console, error)
        except KeyboardInterrupt:
            done = False
    if not done:
        say(console, "Interrupted. Run the same command again to continue from the last epoch of every trial.")
        return stop.status
    return 0


def _quiet_libraries() -> None:
    """Leave the terminal to our messages: libraries log what they do at their levels of warnings and errors."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    set_defaults({"MLFLOW_LOGGING_LEVEL": "WARNING"})
    logging.getLogger("alembic").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message="Clip non-finite values")  # the worst values are infinite on purpose
