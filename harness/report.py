"""``python -m harness.report NAME``: tables and figures of a study, from its record, without training.

Prints the result, and writes one HTML page, ``report.md``, every table as CSV and LaTeX and every figure (of a search
`harness.reports.search`, of an ablation `harness.reports.ablation`). Loads neither torch nor Ray.
"""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from harness.cli import fast_exit
from harness.errors import HarnessError
from harness.experiments import declarations
from harness.importance import Importance
from harness.record.ablation_scores import is_ablation
from harness.record.table import StudyTable, UnknownStudy, read, seed_of, studies
from harness.reports import commands
from harness.reports.ablation import report as ablated
from harness.reports.ablation.findings import answer, verdicts
from harness.reports.ablation.report import AblationReport
from harness.reports.search import report as searched
from harness.reports.search.findings import EVALUATORS, summarize, with_importance
from harness.reports.search.report import SearchReport
from sam2lora.commands.options import refuse
from sam2lora.commands.parser import Parser

Report = SearchReport | AblationReport


def write(
    table: StudyTable,
    folder: Path,
    mlflow_uri: str,
    top: int = 5,
    evaluators: tuple[Importance, ...] = EVALUATORS,
) -> Report:
    """Write the report of ``table`` into ``folder/STUDY/report``, which is made. Equal tables give equal files.

    ``folder``: where results lie, as for `harness.record.table.read`; ``mlflow_uri``: the tracking address that the
    report names. Of a search alone: ``top``, how many best trials it shows, and ``evaluators``, which measure
    importance. Bootstraps are seeded by the study's seed. A study without a completed trial gives a report that says
    so, and fewer figures.
    """
    seed = seed_of(table)
    if is_ablation(table):
        return ablated.write(table, folder, mlflow_uri, seed)
    return searched.written(with_importance(summarize(table, top, seed), seed, evaluators), folder, mlflow_uri)


def show(report: Report, console: Console) -> None:
    """Print the result, and where the rest lies."""
    match report:
        case AblationReport():
            ablated.show(report, console)
        case SearchReport():
            searched.show(report, console)


def resolve(name: str, storage_url: str) -> str:
    """The study that answers the search ``name``: the latest one, or the study of that very name.

    Raises ``UnknownStudy``: with the nearest name if nothing is called so, with the command that makes a study if the
    name is declared but has not been run, and what there is and what could be run.
    """
    askable = {*declarations.names("search_spaces"), *declarations.names("ablations")}
    make = f" Make one:\n  {commands.run(name)}" if name in askable else f"\n{_runnable()}"
    try:
        found = studies(storage_url)
    except UnknownStudy as error:
        raise UnknownStudy(f"{error}{make}") from None
    fitting = [study for study in found if name in (study.search, study.name)]
    if fitting:
        exact = [study for study in fitting if study.name == name]
        return (exact or fitting)[-1].name
    if name in askable:
        raise UnknownStudy(f"There is no study of {name!r} in {storage_url} yet.{make}")
    recorded = [study.name for study in found]
    near = difflib.get_close_matches(name, [*recorded, *(study.search for study in found), *sorted(askable)], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UnknownStudy(
        f"Nothing is called {name!r}, neither a search nor a study in {storage_url}.{hint}\n"
        f"Studies there: {', '.join(recorded) or 'none'}.{make}"
    )


def _runnable() -> str:
    searches, ablations = declarations.names("search_spaces"), declarations.names("ablations")
    return f"What can be run: the searches {', '.join(searches)}; the ablations {', '.join(ablations)}."


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
