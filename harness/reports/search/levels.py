"""Scores by level of the categorical settings, and by combination of two of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pandas as pd

from harness.importance.levels import axes
from harness.record.metric_names import metric_name
from harness.record.table import label
from harness.reports.document import Block, Columns, Figure, Heading, Record, Section, Table, Text, row, table
from harness.reports.figures import cross
from harness.reports.search.best import judged
from harness.reports.search.columns import score_columns
from harness.reports.search.findings import Findings
from harness.reports.search.format import IN_DOMAIN, score, with_gaps
from harness.reports.search.overview import judges
from sam2lora.intervals import ORACLE


def by_level(findings: Findings) -> tuple[Section, ...]:
    """A table for each categorical setting; no section where there is none."""
    if findings.levels.empty or findings.best.empty:
        return ()
    blocks: list[Block] = [Text(_introduction(findings))]
    for parameter, part in findings.levels.groupby("parameter", sort=False):
        blocks.append(Heading(label(str(parameter))))
        parts = _apart(part)
        target = judges(findings.table.question)
        blocks += [_levels(str(parameter), own, target, both=len(parts) > 1) for own in parts]
    if findings.oracle:
        blocks.append(
            Text(
                f"{ORACLE}: how many of the trials were prompted from ground truth; a mean over both kinds describes "
                "neither."
            )
        )
    return (Section("By level of the categorical settings", (*blocks, *_cross(findings))),)


def _introduction(findings: Findings) -> str:
    company = ""
    if not findings.probe:
        instead = (
            "compare levels by the trials of the probe."
            if findings.levels["probe"].any()
            else "this is no fair comparison."
        )
        company = f"The sampler gave good levels more trials, and better values of the other settings: {instead} "
    return (
        f"Completed trials only. Validation {metric_name(findings.metric)}: mean [95 % interval over trials]. Test "
        f"{metric_name(findings.metric)}: every image averaged over the level's trials, then mean [95 % interval over "
        f"patients]. {company}Levels of one setting may differ in the others."
    )


def _apart(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of the probe, if there are any, then those of the sampler."""
    probe = rows["probe"].astype(bool)
    return [part for part in (rows[probe], rows[~probe]) if len(part)]


def _whose(part: pd.DataFrame, both: bool) -> str:
    """Whose trials a table shows, where a study has two kinds."""
    return f" Trials of the {'probe' if part['probe'].all() else 'sampler'}." if both else ""


def _suffix(part: pd.DataFrame) -> str:
    return "_probe" if part["probe"].all() else ""


def _counted(one: Mapping[Any, Any]) -> str:
    """How many trials, and how many of them were prompted from the ground truth: ``8, 5 †``."""
    return str(one["trials"]) + (f", {one['oracle_trials']} {ORACLE}" if one["oracle_trials"] else "")


def _levels(parameter: str, part: pd.DataFrame, target: str, *, both: bool) -> Table:
    words = {"target": target, "source": IN_DOMAIN}
    tests = part[part["role"] != "val"]
    headers = {name: f"{name} ({words[role]})" for name, role in judged(tests)}
    columns: Columns[Record] = {
        "level": lambda level: str(level["level"]),
        "trials": _counted,
        "validation": lambda level: with_gaps(level) if level["trials"] else "no completed trial",
        **score_columns(tests, "level", headers),
    }
    levels = part[part["role"] == "val"].to_dict("records")
    name = f"level_{label(parameter).replace(' ', '_').replace('/', '_')}{_suffix(part)}"
    return table(name, f"By level of {label(parameter)}.{_whose(part, both)}", levels, columns, part)


def _cross(findings: Findings) -> list[Block]:
    if findings.cross.empty:
        return []
    (down, _), (across, _) = axes(findings.table)
    columns = tuple(dict.fromkeys(findings.cross["column"]))
    parts = _apart(findings.cross)
    blocks: list[Block] = [Heading(f"Validation {metric_name(findings.metric)} of every combination (trials)")]
    for own in parts:
        rows = tuple(
            row(str(name), *(_cell(cell) for cell in part.to_dict("records")))
            for name, part in own.groupby("row", sort=False)
        )
        header = (f"{label(down)} / {label(across)}", *columns)
        caption = f"Mean validation {metric_name(findings.metric)} and, in brackets, completed trials."
        name = f"cross{_suffix(own)}"
        combined = f"Mean score of every combination of {label(down)} and {label(across)}."
        whose = _whose(own, len(parts) > 1)
        blocks.append(Table(name, caption + whose, header, rows, own))
        if own["trials"].sum() > 0:
            blocks.append(Figure(name, combined + whose, partial(cross.draw, findings.table, own)))
    return blocks


def _cell(cell: Mapping[Any, Any]) -> str:
    return f"{score(cell['validation'])} ({_counted(cell)})" if cell["trials"] else "none"
