"""``python -m harness.ui [STUDY]``: the trials of a study in MLflow, the best first, in a browser."""

from __future__ import annotations

import argparse
import sys
import webbrowser
from collections.abc import Sequence
from contextlib import nullcontext

from rich.console import Console

from harness.errors import HarnessError
from harness.experiments.lookup import latest, resolve
from harness.record.locations import default_storage
from harness.tracking.mlflow_views import link
from harness.tracking.selection import add_tracking, tracking_of
from sam2lora.cli.messages import say
from sam2lora.cli.options import add_results, number, refuse
from sam2lora.cli.parser import Parser
from sam2lora.credentials import masked


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m harness.ui",
        description="Open the trials of a study in MLflow, the best first. A local database is served until Ctrl-C.",
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="a search or a study (default: the study that began last)"
    )
    add_results(parser, "--out")
    add_tracking(parser)
    parser.add_argument(
        "--port",
        type=number(lambda value: 0 < value < 65536 and value == int(value), "a port from 1 to 65535"),
        default=5000,
        help="of the pages of a local database (default: %(default)s)",
    )
    parser.add_argument("--no-browser", action="store_true", help="print the address only")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns 0, or 2 with one message on standard error."""
    arguments = _arguments(argv)
    console = Console()
    storage = arguments.storage or default_storage(arguments.out)
    address = tracking_of(arguments, arguments.out).address
    try:
        study = resolve(arguments.name, storage) if arguments.name else latest(storage)
        from harness.tracking.mlflow_pages import experiment_of, served  # loads MLflow

        experiment = experiment_of(address, study)
        with nullcontext(address) if address.startswith("http") else served(address, int(arguments.port)) as base:
            console.print(
                f"MLflow: {link(masked(base), experiment, study)}", soft_wrap=True, highlight=False, markup=False
            )
            if not arguments.no_browser:
                webbrowser.open(link(base, experiment, study))
            if base != address:
                say(console, "Ctrl-C ends the pages.")
                _wait()
    except HarnessError as error:
        return refuse(Console(stderr=True), error)
    return 0


def _wait() -> None:
    """Block until Ctrl-C."""
    from threading import Event

    try:
        Event().wait()
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    sys.exit(main())
