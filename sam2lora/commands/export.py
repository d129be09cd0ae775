"""``python -m sam2lora.export``: a trained adapter in the forms of peft and of the official sam2."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from sam2lora import tuned
from sam2lora.commands.options import add_adapter, refuse
from sam2lora.commands.parser import Parser
from sam2lora.errors import AdapterError, Sam2LoraError
from sam2lora.export import write_peft, write_sam2
from sam2lora.runtime import Runtime


def parser() -> argparse.ArgumentParser:
    """The command line of the export."""
    command = Parser(
        prog="python -m sam2lora.export",
        description="Write a trained adapter for other tools: DIR/peft holds peft's adapter files, DIR/sam2 the whole "
        "model with the adapter merged, which the official sam2 loads. Each has a README that says how.",
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    command.add_argument("--format", choices=("peft", "sam2", "both"), default="both", help="default: %(default)s")
    command.add_argument("--overwrite", action="store_true", help="replace an export that is there already")
    add_adapter(command)
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Export from the command line; returns the exit status."""
    arguments = parser().parse_args(argv)
    console = Console(stderr=True)
    formats = ("peft", "sam2") if arguments.format == "both" else (arguments.format,)
    try:
        found = tuned.find(arguments.adapter, arguments.runs, arguments.storage)
        taken = [arguments.out / name for name in formats if (arguments.out / name).exists()]
        if taken and not arguments.overwrite:
            raise AdapterError(f"An export must not replace files unasked, but {taken[0]} exists: say --overwrite.")
        written: list[Path] = []
        if "peft" in formats:
            written += write_peft(found, arguments.out / "peft")
        if "sam2" in formats:
            written += write_sam2(found, Runtime(checkpoint=arguments.checkpoint), arguments.out / "sam2")
    except (Sam2LoraError, ValueError) as error:
        return refuse(console, error)
    for path in written:
        console.print(escape(str(path)), highlight=False, soft_wrap=True)
    return 0
