"""``python -m harness.report NAME``: tables and figures of a study, from its record, without training.

Prints the result, and writes one HTML page, ``report.md``, every table as CSV and LaTeX and every figure (of a search
`harness.reports.search`, of an ablation `harness.reports.ablation`). Loads neither torch nor Ray.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from harness.cli import fast_exit
from harness.errors import HarnessError
from harness.experiments.lookup import resolve
from harness.record.ablation_scores import is_ablation
from harness.record.table import StudyTable, read, seed_of
from harness.reports.ablation import report as ablated
from harness.reports.ablation.findings import answer, verdicts
from harness.reports.search import report as searched
from harness.reports.search.findings import summarize, with_importance
from sam2lora.commands.options import refuse
from sam2lora.commands.parser import Parser


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m harness.report", description="Report a study from its record.")
    parser.add_argument("name", metavar="NAME", help="the search, as in search_spaces/NAME.py, or a study")
    parser.add_argument("--study", help="the study, if the search has several (default: its latest)")
    parser.add_argument("--out", type=Path, default=Path("runs"), metavar="DIR", help="results (default: runs)")
    parser.add_argument("--storage", metavar="URL", help="the record (default: sqlite:///DIR/optuna.db)")
    parser.add_argument(
        "--mlflow", metavar="URL", help="MLflow's address (default: $MLFLOW_TRACKING_URI, else sqlite:///DIR/mlflow.db)"
    )
    parser.add_argument("--top", type=_positive, default=5, help="how many best settings (default: %(default)s)")
    return parser.parse_args(argv)


def _mlflow(given: argparse.Namespace) -> str:
    address: str = given.mlflow or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{given.out / 'mlflow.db'}"
    return address


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, but is {value}")
    return value


def _report(given: argparse.Namespace, table: StudyTable, console: Console) -> None:
    """Print what is known at once, then what takes seconds."""
    seed = seed_of(table)
    if is_ablation(table):
        first = verdicts(table, seed)
        ablated.show_verdicts(first, console)
        with console.status("Cross-checking and drawing ..."):
            made = ablated.written(answer(first, seed, given.out), given.out, _mlflow(given))
        ablated.show_where(made, console)
        return
    found = summarize(table, given.top, seed)
    searched.show_result(found, console)
    with console.status("Measuring importance and drawing ..."):
        report = searched.written(with_importance(found, seed), given.out, _mlflow(given))
    searched.show_importance(report, console)


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Prints the result as soon as it is read, then measures importance, draws and writes.

    Returns 0, or 2 with one message on standard error.
    """
    given = _arguments(argv)
    storage = given.storage or f"sqlite:///{given.out / 'optuna.db'}"
    console = Console()
    try:
        _report(given, read(storage, given.study or resolve(given.name, storage), given.out), console)
    except HarnessError as error:
        return refuse(Console(stderr=True), error)
    return 0


if __name__ == "__main__":
    raise SystemExit(fast_exit.run(main))
