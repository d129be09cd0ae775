"""Writes the report of a search: one HTML page, Markdown, tables as LaTeX and CSV, figures as PNG and SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.record.table import label, metric_name, objective_columns
from harness.reports import commands
from harness.reports.rendering import files
from harness.reports.rendering.console import show as show_table
from harness.reports.rendering.console import table as columns
from harness.reports.search import pictures
from harness.reports.search.best import judged, oracle_note
from harness.reports.search.findings import Findings
from harness.reports.search.format import IN_DOMAIN, images_of, marked, score, setting, spread, with_gaps
from harness.reports.search.gain import gains, reached, validated, what_tuning_gained
from harness.reports.search.importance import reach_of, regression_refused, shown
from harness.reports.search.overview import chosen_on, judges, plainly, validated_on
from harness.reports.search.page import document, figures
from harness.text import amount, count


@dataclass(frozen=True)
class SearchReport:
    """What was written: the folder, its files (``report.html`` first), and the findings behind them."""

    folder: Path
    files: tuple[Path, ...]
    findings: Findings
    mlflow_uri: str

    @property
    def note(self) -> str:
        """The result in plain words, a few paragraphs."""
        return "\n\n".join(plainly(self.findings))

    @property
    def front(self) -> tuple[int, ...]:
        """The numbers of the trials on the Pareto front."""
        return tuple(int(number) for number in self.findings.front["number"])

    @property
    def summary(self) -> dict[str, float]:
        """The study's own numbers by name; only finite ones, since a tracker would draw the others as points."""
        return {name: value for name, value in _summary(self.findings).items() if math.isfinite(value)}

    @property
    def tags(self) -> dict[str, str]:
        """A search has no verdicts."""
        return {}


def written(found: Findings, folder: Path, mlflow_uri: str) -> SearchReport:
    """Write what was ``found`` into ``folder/STUDY/report``, which is made. Equal findings give equal files."""
    study = folder / found.table.name
    whole = {
        "trials": found.table.trials,
        "scores": found.scores,
        **({"references": found.table.references} if len(found.table.references) else {}),
        **({"levels": found.levels} if len(found.levels) else {}),
        "importance": _importance(found),
        "importance_pairs": _pairs(found),
        **({"importance_regression": found.regression} if len(found.regression) else {}),
    }
    made = files.write(
        document(found, mlflow_uri, study), figures(found), pictures.pictures(found, study), whole, study / "report"
    )
    return SearchReport(study / "report", made, found, mlflow_uri)


def _summary(found: Findings) -> dict[str, float]:
    numbers: dict[str, float] = {f"trials/{kind}": float(number) for kind, number in found.outcomes.items()}
    if len(found.table.objectives) > 1:
        numbers["front/trials"] = float(len(found.front))
    if len(found.best):
        numbers["best/trial"] = float(found.best.iloc[0]["number"])
        numbers |= _measured("best/validation", {"mean": found.best.iloc[0]["value"], **validated(found)})
        numbers["best/oracle_prompt"] = float(found.best.iloc[0]["oracle_prompt"])
    rows = found.scores[(found.scores["place"] == 1) & (found.scores["metric"] == found.metric)]
    for row in rows.to_dict("records"):
        name = f"best/test/{row['dataset']}/{found.metric}"
        numbers |= _measured(name, row)
    for one in reached(found.table).to_dict("records"):
        numbers[f"reference/{one['reference']}/validation"] = float(one["value"])
    for row in gains(found).to_dict("records"):
        where = "validation" if row["role"] == "val" else f"test/{row['dataset']}/{found.metric}"
        name = f"gain/{row['reference']}/{where}"
        numbers |= _measured(name, row)
    for source, tables in (("importance", found.importance), ("importance/probe", found.probed)):
        for how, table in tables:
            named = zip(table["parameter"], table["importance"], strict=True)
            numbers |= {f"{source}/{how.kind}/{parameter}": float(value) for parameter, value in named}
    tested = found.regression[found.regression["holm"].notna()]
    named = zip(tested["parameter"], tested["holm"], strict=True)
    return numbers | {f"importance/regression/{parameter}/p_holm": float(value) for parameter, value in named}


def _measured(name: str, row: Mapping[Any, Any]) -> dict[str, float]:
    """A mean by ``name``, with its interval and the images and patients that it is of."""
    parts = {"": "mean", "/low": "low", "/high": "high", "/images": "n", "/patients": "clusters"}
    return {f"{name}{part}": float(row.get(column, math.nan)) for part, column in parts.items()}


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


def show(report: SearchReport, console: Console) -> None:
    """Print what became of the trials, the best settings, what mattered, and where the rest lies."""
    show_result(report.findings, console)
    show_importance(report, console)


def show_result(found: Findings, console: Console) -> None:
    """Print what became of the trials, and the best settings with their test scores."""
    console.print(
        f"Study {found.table.name}: {count(sum(found.outcomes.values()), 'trial')}", style="bold", highlight=False
    )
    if found.outcomes:
        counts = columns(*(kind.replace("_", " ") for kind in found.outcomes))
        counts.add_row(*map(str, found.outcomes.values()))
        show_table(counts, console)
    for paragraph in plainly(found)[: 2 + bool(what_tuning_gained(found))]:
        console.print(paragraph.replace("**", ""), highlight=False, markup=False)
    if found.best.empty:
        return
    if len(found.front):
        console.print(f"Pareto front of {', '.join(found.table.objectives)}", style="bold", highlight=False)
        show_table(_front(found), console)
    where = chosen_on(found.table.question)
    title = f"Best settings, by validation on {where}{validated_on(found)}"
    console.print(title, style="bold", highlight=False, markup=False)
    show_table(_settings(found), console)
    title = f"Their test {metric_name(found.metric)}, with 95 % intervals over patients"
    console.print(title, style="bold", highlight=False)
    show_table(_scores(found), console)
    if note := oracle_note(found):
        console.print(note, highlight=False)


def show_importance(report: SearchReport, console: Console) -> None:
    """Print what mattered, and where the report lies."""
    found = report.findings
    for source, tables in (("the probe: ", found.probed), ("the trace: " * bool(found.probed), found.importance)):
        for how, table in tables:
            console.print(f"{source}{how.title}, {how.question}", style="bold", highlight=False)
            if table["importance"].isna().all():
                console.print(f"Not shown: {_first_note(table)}.", highlight=False)
            else:
                show_table(_importance_table(table), console)
    if len(found.regression):
        console.print(f"{'the probe: ' * bool(found.probed)}regression", style="bold", highlight=False)
        if refusals := regression_refused(found.regression):
            console.print("\n".join(f"Not shown: {why}" for why in refusals), highlight=False, markup=False)
        else:
            show_table(_regression_table(found.regression), console)
    if not found.probe and shown(found.importance):
        whose = "the trace" if found.probed else "these trials"
        console.print(
            f"An optimiser chose {whose}: no chance level holds, so no setting can be said to stand out there.",
            highlight=False,
        )
    console.print(f"Report: {report.files[0]}", soft_wrap=True, highlight=False)
    console.print(f"MLflow: {commands.mlflow(report.mlflow_uri)}", soft_wrap=True, highlight=False)


def _settings(found: Findings) -> Table:
    chosen = [name for name in found.table.distributions if name in found.best]
    shown = columns("place", "trial", "validation", *(label(name).replace(" ", "\n") for name in chosen))
    for row in found.best.to_dict("records"):
        values = (setting(row[name]) for name in chosen)
        shown.add_row(str(row["place"]), marked(row), score(row["value"]), *values)
    return shown


def _front(found: Findings) -> Table:
    further = objective_columns(found.table)[1:]
    shown = columns("trial", "validation", *map(label, further))
    for row in found.front.to_dict("records"):
        shown.add_row(str(row["number"]), score(row["value"]), *(amount(row[name]) for name in further))
    return shown


def _scores(found: Findings) -> Table:
    rows = found.scores[found.scores["metric"] == found.metric]
    datasets = judged(rows)
    roles = {"target": judges(found.table.question), "source": IN_DOMAIN}
    sizes = {name: _over_lines(images_of(rows[rows["dataset"] == name])) for name, _ in datasets}
    shown = columns("place", "trial", *(f"{name}\n{roles[role]}\n{sizes[name]}" for name, role in datasets))
    for place, part in rows.groupby("place"):
        own = {row["dataset"]: _over_lines(with_gaps(row)) for row in part.to_dict("records")}
        cells = [own.get(name, "not tested") for name, _ in datasets]
        shown.add_row(str(place), marked(part.iloc[0].to_dict()), *map(escape, cells))
    return shown


def _over_lines(text: str) -> str:
    """A mean, its interval, images and patients, each on a line of its own."""
    return text.replace(" [", "\n[").replace("], ", "],\n").replace(" images, ", " images,\n")


def _first_note(table: pd.DataFrame) -> str:
    return str(table["note"].iloc[0]) if len(table) else "no setting was searched"


def _importance_table(table: pd.DataFrame) -> Table:
    shown = columns("setting", "importance (over refits)", "chance", "remark")
    for row in table.to_dict("records"):
        figure = "not shown" if pd.isna(row["importance"]) else spread(row)
        shown.add_row(label(row["parameter"]), figure, reach_of(row), str(row["note"]))
    return shown


def _regression_table(table: pd.DataFrame) -> Table:
    shown = columns("setting", "slope", "p (Holm)", "remark")
    for row in table.to_dict("records"):
        slope = "" if pd.isna(row["slope"]) else f"{row['slope']:+.3f}"
        p = "" if pd.isna(row["holm"]) else "< 0.001" if row["holm"] < 0.001 else f"{row['holm']:.3f}"
        shown.add_row(label(row["parameter"]), slope, p, str(row["note"]))
    return shown
