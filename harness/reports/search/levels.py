"""How the levels of categorical settings did, and every combination of two of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.importance.levels import axes
from harness.record.table import ORACLE, label, metric_name
from harness.reports.document import Block, Figure, Heading, Section, Table, Text, row
from harness.reports.search.best import judged
from harness.reports.search.findings import Findings
from harness.reports.search.format import IN_DOMAIN, score, with_gaps
from harness.reports.search.overview import judges


def by_level(found: Findings) -> tuple[Section, ...]:
    """A table for each categorical setting; no section where there is none."""
    if found.levels.empty or found.best.empty:
        return ()
    blocks: list[Block] = [Text(_told(found))]
    for parameter, part in found.levels.groupby("parameter", sort=False):
        blocks.append(Heading(label(str(parameter))))
        parts = _apart(part)
        target = judges(found.table.question)
        blocks += [_levels(str(parameter), own, target, both=len(parts) > 1) for own in parts]
    if found.oracle:
        blocks.append(
            Text(
                f"{ORACLE}: how many of the trials were prompted from ground truth; a mean over both kinds describes "
                "neither."
            )
        )
    return (Section("By level of the categorical settings", (*blocks, *_cross(found))),)


def _told(found: Findings) -> str:
    company = ""
    if not found.probe:
        instead = "compare levels by the probe's trials." if found.levels["probe"].any() else "no fair comparison."
        company = f"The sampler gave good levels more trials and better company: {instead} "
    return (
        f"Completed trials only. Validation {metric_name(found.metric)}: mean [95 % interval over trials]. Test "
        f"{metric_name(found.metric)}: every image averaged over the level's trials, then mean [95 % interval over "
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
    datasets = judged(part[part["role"] != "val"])
    words = {"target": target, "source": IN_DOMAIN}
    rows = []
    for level, own in part.groupby("level", sort=False):
        cells = {one["dataset"]: with_gaps(one) for one in own.to_dict("records")}
        validation = cells["validation"] if int(own["trials"].iloc[0]) else "no completed trial"
        tests = (cells.get(name, "not tested") for name, _ in datasets)
        rows.append(row(str(level), _counted(own.iloc[0].to_dict()), validation, *tests))
    header = ("level", "trials", "validation", *(f"{name} ({words[role]})" for name, role in datasets))
    name = f"level_{label(parameter).replace(' ', '_').replace('/', '_')}{_suffix(part)}"
    return Table(name, f"By level of {label(parameter)}.{_whose(part, both)}", header, tuple(rows), part)


def _cross(found: Findings) -> list[Block]:
    if found.cross.empty:
        return []
    (down, _), (across, _) = axes(found.table)
    columns = tuple(dict.fromkeys(found.cross["column"]))
    parts = _apart(found.cross)
    blocks: list[Block] = [Heading(f"Validation {metric_name(found.metric)} of every combination (trials)")]
    for own in parts:
        rows = tuple(
            row(str(name), *(_cell(cell) for cell in part.to_dict("records")))
            for name, part in own.groupby("row", sort=False)
        )
        header = (f"{label(down)} / {label(across)}", *columns)
        caption = f"Mean validation {metric_name(found.metric)} and, in brackets, completed trials."
        name = f"cross{_suffix(own)}"
        combined = f"Mean score of every combination of {label(down)} and {label(across)}."
        whose = _whose(own, len(parts) > 1)
        blocks += [Table(name, caption + whose, header, rows, own), Figure(name, combined + whose)]
    return blocks


def _cell(cell: Mapping[Any, Any]) -> str:
    return f"{score(cell['validation'])} ({_counted(cell)})" if cell["trials"] else "none"
