"""``python -m harness.replay TRIAL``: train a recorded trial again, and compare it with what the record says."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from harness.cli.options import carried_out
from harness.record.locations import default_storage
from sam2lora.cli.messages import say
from sam2lora.cli.options import add_machine, add_results, add_weights, choose_device, given_files
from sam2lora.cli.parser import Parser


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = Parser(
        prog="python -m harness.replay",
        description="Train a recorded trial again, with the same settings, replicate, images and weights, in a "
        "temporary folder, and compare curve, scores and adapter. Exit status 0: equal, at least within rounding; 1: "
        "different.",
    )
    command.add_argument("trial", metavar="TRIAL", help="the trial's number, or the beginning of its key")
    command.add_argument("--study", help="the study of the trial (default: any)")
    command.add_argument("--data", type=Path, metavar="ROOT", help="folder of the data sets")
    command.add_argument("--checkpoint", metavar="FILE", type=Path, help="weights of the published SAM 2")
    command.add_argument(
        "--restore",
        action="store_true",
        help="put files back that the trial's folder lacks, if they come out as they were written",
    )
    machine = add_machine(command)
    machine.set_defaults(threads=1)  # as trials of a search
    add_weights(machine)
    add_results(command, "--out")
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns 0 if the trial comes out as recorded, 1 if not, 2 with one message if it cannot be run."""
    arguments = parser().parse_args(argv)
    console = Console(stderr=True)
    out = arguments.out.resolve()
    outcomes: list[bool] = []

    def run() -> bool:
        with console.status("loading torch and Optuna"):
            from harness.health import replay
            from sam2lora.checkpoints import local_files
            from sam2lora.models.weights import files_by_digest
            from sam2lora.runtime import Runtime, default_cache

        storage = arguments.storage or default_storage(out)
        record, trial = replay.find(storage, out, arguments.trial, arguments.study)
        device, threads = choose_device(arguments)
        weights = {**local_files(), **files_by_digest(given_files(arguments))}
        runtime = Runtime(arguments.data, default_cache(), weights, device, threads)
        ended = f"{trial.outcome or 'open'} after epoch {len(trial.curve)}"
        say(console, f"{trial.key}, {ended}", f"{record.name} {trial.number}")
        with TemporaryDirectory(prefix="replay-") as scratch:
            for name, comparison in replay.replay(record, trial, runtime, Path(scratch), partial(say, console)):
                say(Console(), str(comparison), name)
                outcomes.append(not isinstance(comparison, replay.Different))
            for path in replay.restore(record, trial, Path(scratch)) if arguments.restore else ():
                say(Console(), str(path), "restored")
        return True

    return carried_out(run, console) or int(not all(outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
