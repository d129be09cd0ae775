"""``python -m sam2lora.export``: write a trained adapter as peft and the official sam2 read it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sam2lora import trained
from sam2lora.cli.messages import say
from sam2lora.cli.options import add_adapter, given_files, path_option, refuse
from sam2lora.cli.parser import Parser
from sam2lora.errors import AdapterError, Sam2LoraError
from sam2lora.export_formats import write_peft, write_sam2
from sam2lora.models.weights import files_by_digest
from sam2lora.runtime import Runtime


def parser() -> argparse.ArgumentParser:
    """The command line of the export."""
    command = Parser(
        prog="python -m sam2lora.export",
        description="Write a trained adapter for other tools: adapter files for peft into DIR/peft, and the whole "
        "model with the adapter merged, for the official sam2, into DIR/sam2. A README in each says how to load it.",
    )
    command.add_argument("--out", type=path_option, required=True, metavar="DIR", help="folder of the results")
    command.add_argument("--format", choices=("peft", "sam2", "both"), default="both", help="default: %(default)s")
    command.add_argument("--overwrite", action="store_true", help="replace an existing export")
    add_adapter(command)
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    arguments = parser().parse_args(argv)
    console = Console(stderr=True)
    formats = ("peft", "sam2") if arguments.format == "both" else (arguments.format,)
    try:
        adapter = trained.find(arguments.adapter, arguments.runs, arguments.storage)
        existing = [arguments.out / name for name in formats if (arguments.out / name).exists()]
        if existing and not arguments.overwrite:
            raise AdapterError(
                f"An export replaces files only with --overwrite, but {existing[0]} exists: add --overwrite."
            )
        written: list[Path] = []
        if "peft" in formats:
            written += write_peft(adapter, arguments.out / "peft")
        if "sam2" in formats:
            runtime = Runtime(weights=files_by_digest(given_files(arguments)))
            written += write_sam2(adapter, runtime, arguments.out / "sam2")
    except (Sam2LoraError, ValueError) as error:
        return refuse(console, error)
    for path in written:
        say(console, str(path))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
