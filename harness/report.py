"""``python -m harness.report NAME``: tables and figures of a study, from its record, without training.

Prints the result, and writes ``report.md``, CSV files and figures, of an ablation one HTML page and LaTeX tables as
well (`harness.ablated`). Loads neither torch nor Ray.
"""

from __future__ import annotations

import argparse
import difflib
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness import brief, wording
from harness.ablated import report as ablated
from harness.ablated.answers import answer, verdicts
from harness.ablated.report import AblationReport
from harness.errors import HarnessError
from harness.findings import EVALUATORS, Findings, summarize, with_importance
from harness.importance import Importance
from harness.measured import is_ablation
from harness.table import StudyTable, UnknownStudy, label, measured, metric_name, objective_columns, read, studies


@dataclass(frozen=True)
class Report:
    """What was written: the folder, its files (``report.md`` first), the text, and the findings behind it."""

    folder: Path
    files: tuple[Path, ...]
    text: str
    findings: Findings
    mlflow_uri: str

    @property
    def note(self) -> str:
        """The result in plain words, a few sentences of Markdown."""
        return wording.note(self.findings)

    @property
    def front(self) -> tuple[int, ...]:
        """The numbers of the trials on the Pareto front."""
        return tuple(int(number) for number in self.findings.front["number"])

    @property
    def summary(self) -> dict[str, float]:
        """The study's own numbers by name; only finite ones, since a tracker would draw the others as points."""
        return {name: value for name, value in _summary(self.findings).items() if math.isfinite(value)}


def write(
    table: StudyTable,
    folder: Path,
    mlflow_uri: str,
    top: int = 5,
    evaluators: tuple[Importance, ...] = EVALUATORS,
) -> Report | AblationReport:
    """Write the report of ``table`` into ``folder/STUDY/report``, which is made. Equal tables give equal files.

    An ablation's is written by `harness.ablated.report`; ``top`` and ``evaluators`` are a search's.

    ``folder``: where results lie, as for `harness.table.read`; ``mlflow_uri``: the tracking address that the report
    names; ``top``: how many best trials it shows; ``evaluators``: who measures importance. Bootstraps are seeded by the
    study's seed. A study without a completed trial gives a report that says so, and fewer figures.
    """
    seed = seed_of(table)
    if is_ablation(table):
        return ablated.write(table, folder, mlflow_uri, seed)
    found = with_importance(summarize(table, top, seed), seed, evaluators)
    return _write(found, folder, mlflow_uri)


def seed_of(table: StudyTable) -> int:
    """The seed of the study, 0 if it has none: bootstraps use it, so that a report can be made again."""
    seed = table.question.get("seed")
    return int(seed) if isinstance(seed, int) and seed >= 0 else 0


def _write(found: Findings, folder: Path, mlflow_uri: str) -> Report:
    folder = folder / found.table.name / "report"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = _draw(found, folder)
    links = {path.stem: path.name for path in drawn if path.suffix == ".png"}
    text = wording.markdown(found, wording.Places(mlflow=mlflow_uri, figures=links))
    markdown = folder / "report.md"
    markdown.write_text(text, encoding="utf-8")
    frames = {
        "trials": found.table.trials,
        "best": _best(found),
        "scores": found.scores,
        **({"levels": found.levels} if len(found.levels) else {}),
        **({"front": found.front} if len(found.table.objectives) > 1 else {}),
        "importance": _importance(found),
        "importance_pairs": _pairs(found),
    }
    tables = [folder / f"{name}.csv" for name in frames]
    for path, frame in zip(tables, frames.values(), strict=True):
        frame.to_csv(path, index=False)
    return Report(folder, (markdown, *tables, *drawn), text, found, mlflow_uri)


def _summary(found: Findings) -> dict[str, float]:
    numbers: dict[str, float] = {f"trials/{kind}": float(count) for kind, count in found.outcomes.items()}
    if len(found.table.objectives) > 1:
        numbers["front/trials"] = float(len(found.front))
    if len(found.best):
        numbers["best/trial"] = float(found.best.iloc[0]["number"])
        numbers["best/validation"] = float(found.best.iloc[0]["value"])
        numbers["best/oracle_prompt"] = float(found.best.iloc[0]["oracle_prompt"])
    rows = found.scores[(found.scores["place"] == 1) & (found.scores["metric"] == found.metric)]
    for row in rows.to_dict("records"):
        name = f"best/test/{row['dataset']}/{found.metric}"
        numbers |= {name: row["mean"], f"{name}/low": row["low"], f"{name}/high": row["high"]}
    for source, tables in (("importance", found.importance), ("importance/probe", found.probed)):
        for how, table in tables:
            named = zip(table["parameter"], table["importance"], strict=True)
            numbers |= {f"{source}/{how.kind}/{parameter}": float(value) for parameter, value in named}
    return numbers


def _importance(found: Findings) -> pd.DataFrame:
    tables = [
        table.assign(evaluator=how.kind, probe=probe)
        for probe, tables in ((True, found.probed), (False, found.importance))
        for how, table in tables
    ]
    return pd.concat(tables, ignore_index=True)


def _pairs(found: Findings) -> pd.DataFrame:
    tables = [table.assign(probe=probe) for probe, table in ((True, found.probed_pairs), (False, found.pairs))]
    return pd.concat([table for table in tables if len(table)] or tables[1:], ignore_index=True)


def _best(found: Findings) -> pd.DataFrame:
    """The best trials, each with ``test/DATASET/METRIC`` and its ``_low``, ``_high`` and ``_n`` beside it."""
    rows = found.scores[found.scores["metric"] == found.metric]
    wide = pd.DataFrame(index=found.best.index)
    for name in ("mean", "low", "high", "n"):
        suffix = "" if name == "mean" else f"_{name}"
        for dataset, part in rows.groupby("dataset"):
            by_place = part.set_index("place")[name]
            wide[f"test/{dataset}/{found.metric}{suffix}"] = found.best["place"].map(by_place)
    return pd.concat([found.best, wide[sorted(wide.columns)]], axis=1)


def _draw(found: Findings, folder: Path) -> list[Path]:
    # Imported here: matplotlib takes a second to load, and the terminal shows its tables before that.
    from harness.figures import cross, curves, history, importance, pareto, simplex, style, targets

    table = found.table
    drawn = {}
    if len(table.trials):
        drawn["history"] = history.draw(table)
    if table.curves["outcome"].isin(["completed", "stopped", "diverged"]).any():
        drawn["curves"] = curves.draw(table)
    if len(simplex.searched(table)) >= 2 and len(measured(table.trials)):
        drawn["simplex"] = simplex.draw(table)
    if len(found.front):
        drawn["pareto"] = pareto.draw(table, found.front)
    for probe, own in found.cross.groupby("probe"):
        if own["trials"].sum() > 0:
            drawn["cross_probe" if probe else "cross"] = cross.draw(table, own)
    for name, tables in (("importance_probe", found.probed), ("importance", found.importance)):
        if any(len(rows) for _, rows in tables):
            drawn[name] = importance.draw([importance.Panel(how.title, how.question, rows) for how, rows in tables])
    scores = found.scores[found.scores["metric"] == found.metric]
    if len(scores):
        drawn["targets"] = targets.draw(scores, found.metric, wording.judges(table.question))
    return [path for name, figure in drawn.items() for path in style.save(figure, folder / name)]


def show(report: Report | AblationReport, console: Console) -> None:
    """Print what became of the trials, the best settings, what mattered, and where the rest lies."""
    if isinstance(report, AblationReport):
        ablated.show(report, console)
        return
    _show_result(report.findings, console)
    _show_importance(report, console)


def _show_result(found: Findings, console: Console) -> None:
    console.print(f"Study {found.table.name}: {sum(found.outcomes.values())} trials", style="bold", highlight=False)
    if found.outcomes:
        counts = _table(*(kind.replace("_", " ") for kind in found.outcomes))
        counts.add_row(*map(str, found.outcomes.values()))
        console.print(counts)
    if found.best.empty:
        console.print("No trial has completed, so there are no best settings.")
        return
    if len(found.front):
        console.print(f"Pareto front of {', '.join(found.table.objectives)}", style="bold", highlight=False)
        console.print(_front(found))
    where = wording.chosen_on(found.table.question)
    console.print(f"Best settings, by validation on {where}", style="bold", highlight=False)
    console.print(_settings(found))
    title = f"Their test {metric_name(found.metric)}, with 95 % intervals over patients"
    console.print(title, style="bold", highlight=False)
    console.print(_scores(found))
    if note := wording.oracle_note(found):
        console.print(note, highlight=False)


def _table(*header: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in header:
        table.add_column(escape(name))
    return table


def _settings(found: Findings) -> Table:
    chosen = [name for name in found.table.distributions if name in found.best]
    shown = _table("place", "trial", "validation", *(label(name).replace(" ", "\n") for name in chosen))
    for row in found.best.to_dict("records"):
        values = (wording.setting(row[name]) for name in chosen)
        shown.add_row(str(row["place"]), wording.marked(row), wording.score(row["value"]), *values)
    return shown


def _front(found: Findings) -> Table:
    further = objective_columns(found.table)[1:]
    shown = _table("trial", "validation", *map(label, further))
    for row in found.front.to_dict("records"):
        shown.add_row(str(row["number"]), wording.score(row["value"]), *(wording.amount(row[name]) for name in further))
    return shown


def _scores(found: Findings) -> Table:
    rows = found.scores[found.scores["metric"] == found.metric]
    datasets = rows[["dataset", "role"]].drop_duplicates().sort_values(["role", "dataset"], ascending=[False, True])
    roles = {"target": wording.judges(found.table.question), "source": "in domain"}
    named = datasets.itertuples(index=False, name=None)
    shown = _table("place", "trial", *(f"{dataset}\n{roles[role]}" for dataset, role in named))
    for place, part in rows.groupby("place"):
        own = {row["dataset"]: _over_lines(wording.with_gaps(row)) for row in part.to_dict("records")}
        cells = [own.get(name, "not tested") for name in datasets["dataset"]]
        shown.add_row(str(place), wording.marked(part.iloc[0].to_dict()), *map(escape, cells))
    return shown


def _over_lines(text: str) -> str:
    """A mean, its interval and how many images were undefined, each on a line of its own."""
    return text.replace(" [", "\n[").replace("], ", "],\n")


def _show_importance(report: Report, console: Console) -> None:
    found = report.findings
    for source, tables in (("the probe: ", found.probed), ("the trace: " * bool(found.probed), found.importance)):
        for how, table in tables:
            console.print(f"{source}{how.title}, {how.question}", style="bold", highlight=False)
            refused = table["importance"].isna().all()
            console.print(f"Not shown: {_first_note(table)}." if refused else _importance_table(table), highlight=False)
    if not found.probe:
        console.print("A trace is not a probe: an optimiser chose these trials, so take importance as a hint.")
    console.print(f"Report: {report.files[0]}", soft_wrap=True, highlight=False)
    console.print(f"MLflow: {wording.mlflow_command(report.mlflow_uri)}", soft_wrap=True, highlight=False)


def _first_note(table: pd.DataFrame) -> str:
    return str(table["note"].iloc[0]) if len(table) else "no setting was searched"


def _importance_table(table: pd.DataFrame) -> Table:
    shown = _table("setting", "importance [95 % interval]", "chance", "remark")
    for row in table.to_dict("records"):
        known = not pd.isna(row["importance"])
        figure = escape(wording.interval(row, "importance")) if known else "not shown"
        chance = wording.score(row["chance"]) if known else ""
        shown.add_row(label(row["parameter"]), figure, chance, str(row["note"]))
    return shown


def resolve(name: str, storage_url: str) -> str:
    """The study that answers the search ``name``: the latest one, or the study of that very name.

    Raises ``UnknownStudy``: with the nearest name if nothing is called so, with the command that makes a study if the
    name is declared but has not been run.
    """
    declared = sorted({*wording.declared("search_spaces"), *wording.declared("ablations")})
    try:
        found = studies(storage_url)
    except UnknownStudy:
        found = []
    fitting = [study for study in found if name in (study.search, study.name)]
    if fitting:
        exact = [study for study in fitting if study.name == name]
        return (exact or fitting)[-1].name
    if name in declared:
        raise UnknownStudy(
            f"There is no study of {name!r} in {storage_url} yet. Make one:\n  {wording.search_command(name)}"
        )
    known = sorted({*declared, *(study.search for study in found), *(study.name for study in found)})
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listed = f" There are: {', '.join(known)}." if known else " Nothing is declared and nothing is recorded."
    raise UnknownStudy(f"Nothing is called {name!r}, neither a search nor a study in {storage_url}.{hint}{listed}")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m harness.report", description="Report a study from its record.")
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
    _show_result(found, console)
    with console.status("Measuring importance and drawing ..."):
        found = with_importance(found, seed)
        report = _write(found, given.out, _mlflow(given))
    _show_importance(report, console)


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
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(brief.run(main))
