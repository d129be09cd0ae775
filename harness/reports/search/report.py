"""The report of a search: one HTML page, Markdown, tables as LaTeX and CSV, figures as PNG and SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from harness.importance import Importance
from harness.record.locations import report_folder, study_folder
from harness.record.metric_names import metric_name
from harness.record.table import StudyTable, label, objective_columns
from harness.reports.rendering import files
from harness.reports.rendering.console import show as show_table
from harness.reports.rendering.console import table as columns
from harness.reports.search.best import judged, oracle_note
from harness.reports.search.findings import Findings, summarize, with_importance
from harness.reports.search.format import IN_DOMAIN, images_of, marked, score, setting, spread, with_gaps
from harness.reports.search.gain import gains, reached, validated, what_tuning_gained
from harness.reports.search.importance import coefficient, probability, reach_of, regression_refused, shown
from harness.reports.search.overview import chosen_on, judges, plainly, validated_on
from harness.reports.search.page import document
from harness.stats.multiplicity import CORRECTION
from harness.text import amount, count
from harness.tracking.tracker import BEST_TRIAL, OpenHint


@dataclass(frozen=True)
class SearchReport:
    """A written report: its folder, its files (``report.html`` first) and its findings."""

    folder: Path
    files: tuple[Path, ...]
    findings: Findings

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
        """The numbers of the study by name; only finite ones, since a tracker would draw the others as points."""
        return {name: value for name, value in _summary(self.findings).items() if math.isfinite(value)}

    @property
    def tags(self) -> dict[str, str]:
        """The number of the best trial by validation, where there is one."""
        best = self.findings.best
        return {BEST_TRIAL: str(int(best.iloc[0]["number"]))} if len(best) else {}


def write(
    table: StudyTable,
    folder: Path,
    hint: OpenHint,
    seed: int,
    top: int,
    evaluators: tuple[Importance, ...],
    console: Console,
) -> SearchReport:
    """Write the report into ``folder/STUDY/report``, which is made; print each part as soon as it is known.

    Equal tables give equal files.
    """
    findings = summarize(table, top, seed)
    show_result(findings, console)
    study, place = study_folder(table.out, table.name), report_folder(study_folder(folder, table.name))
    with console.status("Measuring importance and drawing ..."):
        findings = with_importance(findings, seed, evaluators)
        paths = files.write(document(findings, hint, study), _frames(findings), place)
    show_importance(findings, console)
    console.print(f"Report: {paths[0]}", soft_wrap=True, highlight=False, markup=False)
    console.print(f"{hint.tracker}: {hint.command}", soft_wrap=True, highlight=False, markup=False)
    return SearchReport(place, paths, findings)


def _frames(findings: Findings) -> dict[str, pd.DataFrame]:
    """The whole study as CSV files, by name."""
    table = findings.table
    return {
        "trials": table.trials,
        "scores": findings.scores,
        **({"references": table.references} if len(table.references) else {}),
        **({"levels": findings.levels} if len(findings.levels) else {}),
        "importance": _importance(findings),
        "importance_pairs": _pairs(findings),
        **({"importance_regression": findings.regression} if len(findings.regression) else {}),
    }


def _summary(findings: Findings) -> dict[str, float]:
    numbers: dict[str, float] = {f"trials/{kind}": float(number) for kind, number in findings.outcomes.items()}
    if len(findings.table.objectives) > 1:
        numbers["front/trials"] = float(len(findings.front))
    if len(findings.best):
        numbers |= _measured("best/validation", {"mean": findings.best.iloc[0]["value"], **validated(findings)})
        numbers["best/oracle_prompt"] = float(findings.best.iloc[0]["oracle_prompt"])
    rows = findings.scores[(findings.scores["place"] == 1) & (findings.scores["metric"] == findings.metric)]
    for row in rows.to_dict("records"):
        name = f"best/test/{row['dataset']}/{findings.metric}"
        numbers |= _measured(name, row)
    for one in reached(findings.table).to_dict("records"):
        numbers[f"reference/{one['reference']}/validation"] = float(one["value"])
    for row in gains(findings).to_dict("records"):
        where = "validation" if row["role"] == "val" else f"test/{row['dataset']}/{findings.metric}"
        name = f"gain/{row['reference']}/{where}"
        numbers |= _measured(name, row)
    for source, tables in (("importance", findings.importance), ("importance/probe", findings.probed)):
        for how, table in tables:
            named = zip(table["parameter"], table["importance"], strict=True)
            numbers |= {f"{source}/{how.kind}/{parameter}": float(value) for parameter, value in named}
    tested = findings.regression[findings.regression["holm"].notna()]
    named = zip(tested["parameter"], tested["holm"], strict=True)
    return numbers | {f"importance/regression/{parameter}/p_holm": float(value) for parameter, value in named}


def _measured(name: str, row: Mapping[Any, Any]) -> dict[str, float]:
    """A mean by ``name``, with its interval and the images and patients that it is of."""
    parts = {"": "mean", "/low": "low", "/high": "high", "/images": "n", "/patients": "clusters"}
    return {f"{name}{part}": float(row.get(column, math.nan)) for part, column in parts.items()}


def _importance(findings: Findings) -> pd.DataFrame:
    tables = [
        table.assign(evaluator=how.kind, probe=probe)
        for probe, tables in ((True, findings.probed), (False, findings.importance))
        for how, table in tables
    ]
    return pd.concat(tables, ignore_index=True)


def _pairs(findings: Findings) -> pd.DataFrame:
    tables = [table.assign(probe=probe) for probe, table in ((True, findings.probed_pairs), (False, findings.pairs))]
    return pd.concat([table for table in tables if len(table)] or tables[1:], ignore_index=True)


def show_result(findings: Findings, console: Console) -> None:
    """Print the outcomes of the trials, and the best settings with their test scores."""
    console.print(
        f"Study {findings.table.name}: {count(sum(findings.outcomes.values()), 'trial')}",
        style="bold",
        highlight=False,
        markup=False,
    )
    if findings.outcomes:
        counts = columns(*(kind.replace("_", " ") for kind in findings.outcomes))
        counts.add_row(*map(str, findings.outcomes.values()))
        show_table(counts, console)
    for paragraph in plainly(findings)[: 2 + bool(what_tuning_gained(findings))]:
        console.print(paragraph.replace("**", ""), highlight=False, markup=False)
    if findings.best.empty:
        return
    if len(findings.front):
        console.print(
            f"Pareto front of {', '.join(findings.table.objectives)}", style="bold", highlight=False, markup=False
        )
        show_table(_front(findings), console)
    where = chosen_on(findings.table.question)
    title = f"Best settings, by validation on {where}{validated_on(findings)}"
    console.print(title, style="bold", highlight=False, markup=False)
    show_table(_settings(findings), console)
    title = f"Their test {metric_name(findings.metric)}, with 95 % intervals over patients"
    console.print(title, style="bold", highlight=False, markup=False)
    show_table(_scores(findings), console)
    if note := oracle_note(findings):
        console.print(note, highlight=False, markup=False)


def show_importance(findings: Findings, console: Console) -> None:
    """Print what mattered."""
    for source, tables in (
        ("the probe: ", findings.probed),
        ("the trace: " * bool(findings.probed), findings.importance),
    ):
        for how, table in tables:
            console.print(f"{source}{how.title}, {how.question}", style="bold", highlight=False, markup=False)
            if table["importance"].isna().all():
                console.print(f"Not shown: {_first_note(table)}.", highlight=False, markup=False)
            else:
                show_table(_importance_table(table), console)
    if len(findings.regression):
        console.print(f"{'the probe: ' * bool(findings.probed)}regression", style="bold", highlight=False, markup=False)
        if refusals := regression_refused(findings.regression):
            console.print("\n".join(f"Not shown: {why}" for why in refusals), highlight=False, markup=False)
        else:
            show_table(_regression_table(findings.regression), console)
    if not findings.probe and shown(findings.importance):
        whose = "the trace" if findings.probed else "these trials"
        console.print(
            f"An optimiser chose {whose}: no chance level holds, so no setting can be said to stand out there.",
            highlight=False,
            markup=False,
        )


def _settings(findings: Findings) -> Table:
    chosen = [name for name in findings.table.distributions if name in findings.best]
    shown = columns("place", "trial", "validation", *(label(name).replace(" ", "\n") for name in chosen))
    for row in findings.best.to_dict("records"):
        values = (setting(row[name]) for name in chosen)
        shown.add_row(str(row["place"]), marked(row), score(row["value"]), *values)
    return shown


def _front(findings: Findings) -> Table:
    further = objective_columns(findings.table)[1:]
    shown = columns("trial", "validation", *map(label, further))
    for row in findings.front.to_dict("records"):
        shown.add_row(str(row["number"]), score(row["value"]), *(amount(row[name]) for name in further))
    return shown


def _scores(findings: Findings) -> Table:
    rows = findings.scores[findings.scores["metric"] == findings.metric]
    datasets = judged(rows)
    roles = {"target": judges(findings.table.question), "source": IN_DOMAIN}
    sizes = {name: _over_lines(images_of(rows[rows["dataset"] == name])) for name, _ in datasets}
    shown = columns("place", "trial", *(f"{name}\n{roles[role]}\n{sizes[name]}" for name, role in datasets))
    for place, part in rows.groupby("place"):
        own = {row["dataset"]: _over_lines(with_gaps(row)) for row in part.to_dict("records")}
        cells = [own.get(name, "not tested") for name, _ in datasets]
        shown.add_row(str(place), marked(part.iloc[0].to_dict()), *cells)
    return shown


def _over_lines(text: str) -> str:
    """A mean, its interval, images and patients, one on each line."""
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
    shown = columns("setting", "slope", f"p ({CORRECTION})", "remark")
    for row in table.to_dict("records"):
        shown.add_row(label(row["parameter"]), coefficient(row["slope"]), probability(row["holm"]), str(row["note"]))
    return shown
