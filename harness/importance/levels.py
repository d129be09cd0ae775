"""Scores by level of the categorical settings: pure functions of a study's table.

Means over the trials that a search happened to make: unless they were drawn without looking at scores, or are a full
grid, the levels of one setting also differ in the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pandas as pd
from optuna.distributions import CategoricalDistribution

from harness.record.table import StudyTable, metric_of, ranking
from sam2lora.intervals import MeanInterval, mean_interval
from sam2lora.metrics import reading

LEVEL_COLUMNS = (
    *("probe", "parameter", "level", "trials", "oracle_trials", "dataset", "role"),
    *("mean", "low", "high", "n", "clusters", "undefined"),
)
CROSS_COLUMNS = ("probe", "row", "column", "trials", "oracle_trials", "validation", "target")
_NO_TRIAL = MeanInterval(math.nan, math.nan, math.nan, 0, 0, 0)


def categorical(table: StudyTable) -> dict[str, list[Any]]:
    """The choices of every categorical setting that has two or more, by column."""
    return {
        name: list(spread.choices)
        for name, spread in table.distributions.items()
        if isinstance(spread, CategoricalDistribution) and len(spread.choices) > 1
    }


def _parts(table: StudyTable) -> Iterator[tuple[bool, StudyTable]]:
    """The study with the trials of its sampler alone and, where it has a probe, with those of the probe alone."""
    probe = table.trials["probe"].astype(bool)
    for which in (False, True):
        if not which or probe.any():
            yield which, replace(table, trials=table.trials[probe == which])


def levels(table: StudyTable) -> pd.DataFrame:
    """Scores by level of every categorical setting, over completed trials: `LEVEL_COLUMNS`.

    ``probe``: whether the row is of the probe's trials, all others are of the sampler's alone: it gave good levels more
    trials, so that a mean over both would be of neither.
    Rows with role ``val`` hold the mean validation score with an interval over trials (``n`` trials); the others the
    mean test score on one data set, each image averaged over the level's trials first, with an interval over patients
    (``n`` images). ``trials``: completed trials of the level; ``oracle_trials``: those of them that were prompted from
    the ground truth. A level without a completed trial has NaN.
    """
    rows: list[dict[str, Any]] = []
    for probe, own in _parts(table):
        rows += [{"probe": probe, **row} for row in _by_level(own)]
    return pd.DataFrame(rows, columns=LEVEL_COLUMNS)


def _by_level(table: StudyTable) -> Iterator[dict[str, Any]]:
    done = ranking(table)
    for column, choices in categorical(table).items():
        for level in choices:
            part = done[done[column] == level] if column in done else done.head(0)
            named = {"parameter": column, "level": str(level), "trials": len(part)}
            named["oracle_trials"] = int(part["oracle_prompt"].sum())
            over_trials = (
                mean_interval(part["value"], part["number"], reading(metric_of(table)).range)
                if len(part)
                else _NO_TRIAL
            )
            yield {**named, "dataset": "validation", "role": "val", **asdict(over_trials)}
            for tested in _tested(table, part["key"]):
                yield {**named, **tested}


def _tested(table: StudyTable, keys: pd.Series) -> list[dict[str, Any]]:
    images = table.images[table.images["key"].isin(keys) & (table.images["role"] != "val")]
    metric = metric_of(table)
    rows = []
    for (dataset, role), part in images.groupby(["dataset", "role"], sort=True):
        by_image = part.groupby(["image", "patient"], as_index=False)[metric].mean()
        interval = mean_interval(by_image[metric], by_image["patient"], reading(metric).range)
        rows.append({"dataset": dataset, "role": role, **asdict(interval)})
    return rows


def is_grid(table: StudyTable) -> bool:
    """Whether exactly two settings were searched, both categorical: then `cross` holds their combinations."""
    return len(table.distributions) == 2 and len(categorical(table)) == 2


def cross(table: StudyTable) -> pd.DataFrame:
    """Every combination of the two settings of a grid (`is_grid`), else no row: `CROSS_COLUMNS`.

    ``probe`` as by `levels`; ``row`` and ``column``: the levels of the setting with more levels and of the other one;
    trials are counted as by `levels`. ``validation``: mean validation score; ``target``: mean test score on unseen data
    sets, each with equal weight; NaN where no trial of the combination has completed, or nothing unseen was tested.
    """
    if not is_grid(table):
        return pd.DataFrame(columns=CROSS_COLUMNS)
    cells = [(probe, *cell) for probe, own in _parts(table) for cell in _combinations(own)]
    return pd.DataFrame(cells, columns=CROSS_COLUMNS)


def _combinations(table: StudyTable) -> Iterator[tuple[str, str, int, int, float, float]]:
    done = ranking(table)
    (down, rows), (across, columns) = axes(table)
    unseen = [f"score/{name}/{metric_of(table)}" for name, role in table.roles.items() if role == "target"]
    tested = done.reindex(columns=unseen).mean(axis=1)
    for row in rows:
        for column in columns:
            here = (done[down] == row) & (done[across] == column) if len(done) else pd.Series(dtype=bool)
            counts = int(here.sum()), int(done["oracle_prompt"][here].sum())
            yield str(row), str(column), *counts, done["value"][here].mean(), tested[here].mean()


def axes(table: StudyTable) -> list[tuple[str, list[Any]]]:
    """Column and choices of the two settings of a grid, that with more choices first."""
    return sorted(categorical(table).items(), key=lambda item: (-len(item[1]), item[0]))
