"""Command-line options of the commands that train: the protocol with its data sets, the backbone, the frame."""

from __future__ import annotations

import argparse
from typing import get_args

from sam2lora.choice import kinds
from sam2lora.cli.options import positive
from sam2lora.datasets.pairs import Target
from sam2lora.protocols import Protocol


def add_protocol(group: argparse._ArgumentGroup, note: str = "") -> None:
    """Add the options of the protocol, its data sets and the backbone. ``note`` ends the help of ``--protocol``."""
    group.add_argument(
        "--protocol",
        choices=list(kinds(Protocol)),
        help="which data sets train and which are only tested on: transfer and few_shot take --sources and --targets, "
        f"the others --datasets{note}",
    )
    group.add_argument(
        "--sources", metavar="A,B", help="data sets to train and validate on, each NAME[:FIELD=VALUE]..."
    )
    group.add_argument("--targets", metavar="C,D", help="data sets to test on, never seen in training")
    group.add_argument(
        "--datasets", metavar="A,B,C", help="data sets of a protocol that has no separate sources and targets"
    )
    group.add_argument(
        "--shots", type=positive, metavar="K", help="patients of each target that join the training (few_shot)"
    )
    group.add_argument(
        "--structure", choices=get_args(Target), help="what to segment in every data set (the disc includes the cup)"
    )
    group.add_argument(
        "--backbone",
        metavar="B",
        help="nano, tiny, small, base+ or large (the last four are SAM 2.1, downloaded on first use; tiny@2.0: SAM 2), "
        "unet or unet:ENCODER (a U-Net that is trained whole, without an adapter)",
    )


def add_image_size(group: argparse._ArgumentGroup) -> None:
    """Add the option of the side of the frame."""
    group.add_argument(
        "--image-size",
        type=image_size,
        metavar="N",
        help="side of the model's square frame in pixels: a multiple of 16 from 32 on (nano), of 32 (SAM 2), of 32 "
        "from 64 on (unet)",
    )


def image_size(text: str) -> int:
    """The side of a frame that some backbone can have, or argparse's error. The backbone has a stricter rule."""
    if not text.isdecimal() or int(text) < 32 or int(text) % 16:
        raise argparse.ArgumentTypeError(f"must be a multiple of 16 from 32 on, but is {text!r}")
    return int(text)
