"""Options, error messages and exit statuses that the commands share."""

from __future__ import annotations

import argparse
import math
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

from pydantic import ValidationError
from rich.console import Console

from sam2lora.choice import describe
from sam2lora.cli.messages import say
from sam2lora.credentials import STORAGE, restored
from sam2lora.environment import local_path, variable
from sam2lora.errors import AddressError
from sam2lora.resources import usable_cores

REFUSED = 2
RANDOM = "random"
"""The value of --checkpoint for random weights."""
INTERRUPTED = 130
"""Exit status after SIGINT, by the shell's convention."""


@dataclass
class Stop:
    """``status``: the exit status of an interruption, by the shell's convention 128 and the number of its signal."""

    status: int = INTERRUPTED


@contextmanager
def interruptible() -> Iterator[Stop]:
    """Raise ``KeyboardInterrupt`` on SIGTERM, too, which Slurm and ``timeout`` send; yields the exit status.

    Python handles signals in the main thread: elsewhere nothing changes.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def terminated(number: int, frame: FrameType | None) -> None:
        stop.status = 128 + number
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminated)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


def whole(least: int) -> Callable[[str], int]:
    """The type of an option that is an integer of ``least`` or more; of others it raises argparse's error."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of {least} or more, but is {text!r}")
        return int(text)

    return read


positive, seed = whole(1), whole(0)


def number(fits: Callable[[float], bool], rule: str) -> Callable[[str], float]:
    """The type of an option that is a number which ``fits``, as ``rule`` says in words."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not fits(value):
            raise argparse.ArgumentTypeError(f"must be {rule}, but is {text!r}")
        return value

    return read


def path_option(text: str) -> Path:
    """The type of an option that is a file or a folder: `sam2lora.runtime.local_path`, or argparse's error."""
    try:
        return local_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def address_option(name: str) -> Callable[[str], str]:
    """The type of an option that is an address; the variable ``name`` holds the secret of one that is masked."""

    def read(text: str) -> str:
        try:
            return restored(text, name)
        except AddressError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def add_machine(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options of device and threads, which change no result; returns their group for further options."""
    group = parser.add_argument_group("the machine")
    group.add_argument(
        "--device", type=_device, metavar="D", help="cpu, cuda or cuda:N (default: a GPU if there is one)"
    )
    group.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: one per core)")
    return group


def add_adapter(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a trained adapter and the weights that it was trained on."""
    group = parser.add_argument_group("the trained adapter")
    group.add_argument(
        "--adapter",
        required=True,
        metavar="WHERE",
        help="a .safetensors file, a trial's folder, a study's folder or name (its best trial by validation on the "
        "sources), or an MLflow run (runs:/ID or ID)",
    )
    group.add_argument(
        "--checkpoint",
        metavar="FILE",
        type=path_option,
        help="weights of the published SAM 2 that the adapter was trained on",
    )
    add_weights(group)
    add_results(group, "--runs")


def add_results(group: argparse._ActionsContainer, folder: Literal["--out", "--runs"]) -> None:
    """Add the options that name the results of the harness, ``--out`` to write them and ``--runs`` to find a name."""
    purpose = "folder of the results" if folder == "--out" else "folder of the results in which names are looked up"
    group.add_argument(folder, type=path_option, default=Path("runs"), metavar="DIR", help=f"{purpose} (default: runs)")
    group.add_argument(
        "--storage",
        type=address_option(STORAGE),
        default=variable(STORAGE),
        metavar="URL",
        help=f"database of the record (default: ${STORAGE}, where an address with a password belongs, else "
        "sqlite:///DIR/optuna.db)",
    )


def add_weights(group: argparse._ArgumentGroup) -> None:
    """Add the option for files of weights other than the backbone's."""
    group.add_argument(
        "--weights",
        type=path_option,
        action="append",
        default=[],
        metavar="FILE",
        help="a file of weights that the settings name by its sha256; give the option again for another",
    )


def given_files(arguments: argparse.Namespace) -> list[Path]:
    """The files of weights of a command line: the backbone's, and those of other parts."""
    checkpoint = arguments.checkpoint
    return [*([] if checkpoint in (None, RANDOM) else [Path(checkpoint)]), *arguments.weights]


def choose_device(arguments: argparse.Namespace) -> tuple[str, int]:
    """The device and the number of threads of a command line."""
    import torch  # takes seconds: only after everything that can be refused without it

    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return device, arguments.threads or min(torch.get_num_threads(), usable_cores())


def refuse(console: Console, error: BaseException) -> int:
    """Print an error that the user can fix; returns the exit status of a refused command."""
    message = str(error)
    if isinstance(error, ValidationError):
        message = f"Settings must be valid for a trial, but these are not:\n{describe(error)}"
    say(console, message, "error", "bold red")
    return REFUSED


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"must be cpu, cuda or cuda:N, but is {text!r}")
    if text == "cpu":
        return text
    import torch  # takes seconds: only where a GPU is asked for

    if not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(f"is {text!r}, but this machine has no usable GPU: leave it out")
    available = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if text not in ("cuda", *available):
        raise argparse.ArgumentTypeError(f"must be a GPU of this machine, {' or '.join(available)}, but is {text!r}")
    return text
