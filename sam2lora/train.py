"""``python -m sam2lora.train``: train one configuration and score it on its test images.

This file parses the command line; ``sam2lora.training.single_run``, which loads torch, does the work.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console

from sam2lora.cli.messages import say
from sam2lora.cli.options import (
    add_machine,
    add_results,
    add_weights,
    interruptible,
    path_option,
    positive,
    refuse,
    seed,
)
from sam2lora.cli.parser import Parser
from sam2lora.errors import Sam2LoraError
from sam2lora.protocol_options import add_image_size, add_protocol


def parser() -> argparse.ArgumentParser:
    """The command line of the training."""
    command = Parser(
        prog="python -m sam2lora.train",
        description="Train one configuration, without a search, and score it once on the test images of its sources "
        "and on its targets. After an interruption, run the same command again to continue.",
        epilog="Settings come from --config, --preset or --like (else from the defaults, which --print-config shows), "
        "then from the named options, then from --set in the given order.",
    )
    settings = command.add_argument_group("the settings")
    begin = settings.add_mutually_exclusive_group()
    begin.add_argument(
        "--config", type=path_option, metavar="FILE", help="settings as JSON, as --print-config writes them"
    )
    begin.add_argument(
        "--like", metavar="WHERE", help="the settings of a trained adapter: a file, a folder, a study or an MLflow run"
    )
    begin.add_argument(
        "--preset", metavar="NAME", help="published settings, such as sam2lora_r64; prints their assumptions as well"
    )
    add_protocol(settings)
    settings.add_argument("--dataset", metavar="A", help="which of --datasets to train on (per_dataset)")
    settings.add_argument("--held-out", metavar="A", help="which of --datasets to test on (leave_one_dataset_out)")
    settings.add_argument("--rank", type=positive, metavar="N", help="rank of LoRA; alpha becomes twice the rank")
    settings.add_argument("--lr", type=float, metavar="F", help="learning rate")
    settings.add_argument("--epochs", type=positive, metavar="N", help="passes over the training images")
    add_image_size(settings)
    settings.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="assignments",
        help="any field by its path: adapters.0.rank=16, schedule=constant, loss.terms.0.weight=1.0",
    )
    settings.add_argument(
        "--seed", type=seed, metavar="N", help="seed of data order, augmentation and initial values (default: 0)"
    )
    settings.add_argument(
        "--fold", type=int, choices=range(5), help="which fifth of the development images validates (default: 0)"
    )
    settings.add_argument("--print-config", action="store_true", help="print the settings as JSON and stop")
    where = command.add_argument_group("the files")
    where.add_argument(
        "--out",
        type=path_option,
        metavar="DIR",
        help="folder of the results (default: runs/train/NAME, with a name derived from the settings)",
    )
    where.add_argument(
        "--data", type=path_option, metavar="ROOT", help="folder of the data sets, each in its publisher's layout"
    )
    where.add_argument(
        "--checkpoint", metavar="FILE", help="weights as Meta distributes them, or 'random' (with --backbone)"
    )
    add_weights(where)
    add_results(where, "--runs")
    add_machine(command)
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = parser().parse_args(argv)
    console = Console(stderr=True)
    with interruptible() as stop:
        try:
            with console.status("loading torch"):
                from sam2lora.training import single_run
            single_run.run(arguments, console)
        except (Sam2LoraError, ValueError) as error:
            return refuse(console, error)
        except KeyboardInterrupt:
            say(console, "Interrupted. Run the same command again to continue after the last finished epoch.")
            return stop.status
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
