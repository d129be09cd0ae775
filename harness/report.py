"""``python -m harness.report NAME``: tables and figures of a study, from its record, without training.

Prints the result, and writes one HTML page, ``report.md``, every table as CSV and LaTeX and every figure (of a search
`harness.reports.search`, of an ablation `harness.reports.ablation`). Loads neither torch nor Ray.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from rich.console import Console

from harness.cli import fast_exit
from harness.errors import HarnessError
from harness.experiments.lookup import resolve
from harness.record.locations import default_storage
from harness.record.table import read
from harness.reports import build
from harness.tracking.selection import add_tracking, tracking_of
from sam2lora.cli.options import add_results, path_option, positive, refuse
from sam2lora.cli.parser import Parser
from sam2lora.errors import Sam2LoraError


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="python -m harness.report", description="Write and print the report of a study from its record."
    )
    parser.add_argument("name", metavar="NAME", help="the search, as in search_spaces/NAME.py, or a study")
    parser.add_argument("--study", help="the study, if the search has several (default: its latest)")
    add_results(parser, "--out")
    add_tracking(parser)
    parser.add_argument(
        "--to",
        type=path_option,
        metavar="FOLDER",
        help="write the report into FOLDER/STUDY/report (default: DIR)",
    )
    parser.add_argument(
        "--top", type=positive, default=5, help="number of best settings to show (default: %(default)s)"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Prints the result as soon as it is read, then measures importance, draws and writes.

    Returns 0, or 2 with one message on standard error.
    """
    arguments = _arguments(argv)
    out = arguments.out
    try:
        storage = arguments.storage or default_storage(out)
        table = read(storage, arguments.study or resolve(arguments.name, storage), out)
        build.write(
            table, arguments.to or out, tracking_of(arguments, out).hint(table.name), arguments.top, console=Console()
        )
    except (HarnessError, Sam2LoraError) as error:
        return refuse(Console(stderr=True), error)
    return 0


if __name__ == "__main__":
    raise SystemExit(fast_exit.run(main))
