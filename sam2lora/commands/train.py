"""``python -m sam2lora.train``: train one configuration and score it on its test images.

The command line alone; what it asks for is done in ``sam2lora.commands.training``, which loads torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sam2lora.choice import kinds
from sam2lora.commands.options import add_asked, add_machine, add_side, positive, refuse, seed, stoppable
from sam2lora.commands.parser import Parser
from sam2lora.errors import Sam2LoraError
from sam2lora.protocols import Protocol


def parser() -> argparse.ArgumentParser:
    """The command line of the training."""
    command = Parser(
        prog="python -m sam2lora.train",
        description="Train one configuration, without a search, and score it once on the test images of its sources "
        "and on its targets. Run the same command again to go on after an interruption.",
        epilog="Settings are taken from --config, --preset or --like (else: the defaults, --print-config shows them), "
        "then from the named options, then from --set in the order given.",
    )
    settings = command.add_argument_group("the settings")
    begin = settings.add_mutually_exclusive_group()
    begin.add_argument("--config", type=Path, metavar="FILE", help="settings as JSON, as --print-config writes them")
    begin.add_argument(
        "--like", metavar="WHERE", help="settings of a trained adapter: a file, a folder, a study or an MLflow run"
    )
    begin.add_argument(
        "--preset", metavar="NAME", help="published settings, such as sam2lora_r64; what they assume is printed as well"
    )
    settings.add_argument(
        "--protocol",
        choices=list(kinds(Protocol)),
        help="who trains and who judges: transfer and few_shot take --sources and --targets, the others --datasets",
    )
    settings.add_argument("--sources", metavar="A,B", help="data sets to train and validate on")
    settings.add_argument("--targets", metavar="C,D", help="data sets to judge on, never seen in training")
    settings.add_argument("--datasets", metavar="A,B,C", help="data sets of a protocol without sources and targets")
    settings.add_argument("--dataset", metavar="A", help="the one of --datasets to train on (per_dataset)")
    settings.add_argument("--held-out", metavar="A", help="the one of --datasets to judge on (leave_one_dataset_out)")
    add_asked(settings)
    settings.add_argument("--rank", type=positive, metavar="N", help="rank of LoRA; alpha becomes twice the rank")
    settings.add_argument("--lr", type=float, metavar="F", help="learning rate")
    settings.add_argument("--epochs", type=positive, metavar="N", help="passes over the training images")
    add_side(settings)
    settings.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="assignments",
        help="any field by its path: adapter.rank=16, schedule=constant, loss.terms.0.weight=1.0",
    )
    settings.add_argument(
        "--seed", type=seed, metavar="N", help="of data order, augmentation and initial values (default: 0)"
    )
    settings.add_argument(
        "--fold", type=int, choices=range(5), help="fifth of the development images that validates (default: 0)"
    )
    settings.add_argument("--print-config", action="store_true", help="print the settings as JSON and stop")
    where = command.add_argument_group("the files")
    where.add_argument(
        "--out", type=Path, metavar="DIR", help="results (default: runs/train/, a name made of the settings)"
    )
    where.add_argument("--data", type=Path, metavar="ROOT", help="folder of the data sets, in their owners' layouts")
    where.add_argument(
        "--checkpoint", metavar="FILE", help="weights as Meta distributes them, or with --backbone the word 'random'"
    )
    where.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="DIR", help="where --like looks up names (default: runs)"
    )
    where.add_argument("--storage", metavar="URL", help="record of --like (default: sqlite:///RUNS/optuna.db)")
    add_machine(command)
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the command line; returns the exit status."""
    arguments = parser().parse_args(argv)
    console = Console(stderr=True)
    with stoppable() as stop:
        try:
            with console.status("loading torch"):
                from sam2lora.commands import training  # seconds, so after all that can be refused without it
            training.run(arguments, console)
        except (Sam2LoraError, ValueError) as error:
            return refuse(console, error)
        except KeyboardInterrupt:
            console.print("Interrupted. Run the same command again to go on from the last epoch.")
            return stop.status
    return 0
