"""What the commands of this package share: options, and how an error ends one."""

from __future__ import annotations

import argparse
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import get_args

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from sam2lora.choice import told

REFUSED = 2
INTERRUPTED = 130
"""Exit status after SIGINT, by the shell's convention."""


@dataclass
class Stop:
    """``status``: the exit status of an interruption, by the shell's convention 128 and the number of its signal."""

    status: int = INTERRUPTED


@contextmanager
def stoppable() -> Iterator[Stop]:
    """While it lasts SIGTERM, as Slurm and ``timeout`` send it, raises ``KeyboardInterrupt``; gives the exit status.

    For the main thread, where Python handles signals.
    """
    stop = Stop()

    def terminated(number: int, frame: FrameType | None) -> None:
        stop.status = 128 + number
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminated)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


def positive(text: str) -> int:
    """An integer of 1 or more, or argparse's error."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of 1 or more, but is {text!r}")
    return int(text)


def seed(text: str) -> int:
    """An integer of 0 or more, or argparse's error."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of 0 or more, but is {text!r}")
    return int(text)


def side(text: str) -> int:
    """The side of a frame that some backbone can have, or argparse's error; each has a rule of its own besides."""
    if not text.isdecimal() or int(text) < 32 or int(text) % 16:
        raise argparse.ArgumentTypeError(f"must be a multiple of 16 from 32 on, but is {text!r}")
    return int(text)


def add_side(group: argparse._ArgumentGroup) -> None:
    """The option of the side of the frame."""
    group.add_argument(
        "--image-size",
        type=side,
        metavar="N",
        help="side of the model's square frame, in pixels: a multiple of 16 from 32 on (nano), of 32 (the sizes of SAM "
        "2), of 32 from 64 on (unet)",
    )


def add_asked(group: argparse._ArgumentGroup) -> None:
    """Options that every command which trains reads alike: shots, structure and backbone."""
    from sam2lora.datasets.pairs import Target  # and all data sets with it, which a report does without

    group.add_argument(
        "--shots", type=positive, metavar="K", help="patients of each target that join the training (few_shot)"
    )
    group.add_argument(
        "--structure", choices=get_args(Target), help="what to segment in every data set (the disc contains the cup)"
    )
    group.add_argument(
        "--backbone",
        metavar="B",
        help="nano, tiny, small, base+ or large (the last four are SAM 2.1, downloaded on first use; tiny@2.0: SAM 2), "
        "unet or unet:ENCODER (a U-Net that is trained whole, without an adapter)",
    )


def add_machine(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Options that say where a command computes, none of which changes a result; the group, for more of the kind."""
    group = parser.add_argument_group("the machine")
    group.add_argument(
        "--device", type=_device, metavar="D", help="cpu, cuda or cuda:N (default: a GPU if there is one)"
    )
    group.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: one for every core)")
    return group


def add_adapter(parser: argparse.ArgumentParser) -> None:
    """The options that name a trained adapter and the weights under it."""
    group = parser.add_argument_group("the trained adapter")
    group.add_argument(
        "--adapter",
        required=True,
        metavar="WHERE",
        help="a .safetensors file, a trial's folder, a study's folder or name (its best trial by validation on the "
        "sources), or an MLflow run (runs:/ID or ID)",
    )
    group.add_argument("--checkpoint", metavar="FILE", type=Path, help="weights of a published SAM 2, as trained on")
    group.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="results of the harness, where names are looked up (default: runs)",
    )
    group.add_argument("--storage", metavar="URL", help="the record (default: sqlite:///DIR/optuna.db)")


def machine(arguments: argparse.Namespace) -> tuple[str, int]:
    """The device and the number of threads that the options ask for."""
    import torch  # takes seconds: after all that can be refused without it

    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return device, arguments.threads or torch.get_num_threads()


def refuse(console: Console, error: BaseException) -> int:
    """Print an error that a person can mend, and give the exit status of a refusal."""
    said = str(error)
    if isinstance(error, ValidationError):
        said = f"Settings must be such that a trial can have them, but these cannot be:\n{told(error)}"
    console.print(f"[bold red]error:[/] {escape(said)}", highlight=False, soft_wrap=True)
    return REFUSED


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"must be cpu, cuda or cuda:N, but is {text!r}")
    if text == "cpu":
        return text
    import torch  # takes seconds: only where a GPU is asked for

    if not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(f"is {text!r}, but no GPU can be used here: leave it out")
    here = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if text not in ("cuda", *here):
        raise argparse.ArgumentTypeError(f"must be a GPU of this machine, {' or '.join(here)}, but is {text!r}")
    return text
