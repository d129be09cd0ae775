"""One table over the ablations of a protocol that has several models: each comparison on each model, and together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from harness.record.table import read, seed_of
from harness.reports.ablation import format
from harness.reports.ablation.judgement import judge
from harness.reports.rendering.markdown import grid
from harness.stats.multiplicity import CORRECTION

COLUMNS = (
    *("comparison", "study", "effect", "low", "high", "holm_p", "verdict"),
    *("replicates", "images", "models", "lowest", "highest"),
)


def summary(storage: str, names: Sequence[str], folder: Path) -> pd.DataFrame:
    """The verdicts of every study, then a row with an empty ``study`` for the mean of the effects: `COLUMNS`.

    ``low`` and ``high``: of a study, its 95 % interval over replicates and patients. The mean, of the studies each
    counted once (``models`` of them), has none: they share seeds, training or test sets, and an interval over them as
    if they were independent covers as little as 55 %. ``lowest`` and ``highest`` are those of its studies. ``verdict``:
    of the mean, whether the studies agree. A study without a score that judges has no rows, and is not among
    ``models``.
    """
    rows = []
    for name in names:
        table = read(storage, name, folder)
        for one in judge(table, seed_of(table)).judged:
            effect = one.effect
            numbers = (effect.estimate, effect.low, effect.high, one.differs_p)
            counts = (effect.replicates, effect.images, 1, effect.estimate, effect.estimate)
            rows.append((effect.contrast, name, *numbers, format.verdict_line(one), *counts))
    verdicts = pd.DataFrame(rows, columns=list(COLUMNS))
    parts = [
        part for name, own in verdicts.groupby("comparison", sort=False) for part in (own, _together(str(name), own))
    ]
    return pd.concat(parts, ignore_index=True) if parts else verdicts


def _together(name: str, own: pd.DataFrame) -> pd.DataFrame:
    effects = own["effect"].dropna()
    counts = (int(own["replicates"].sum()), int(own["images"].sum()), len(effects), effects.min(), effects.max())
    row = (name, "", effects.mean(), math.nan, math.nan, math.nan, _agreement(own["verdict"]), *counts)
    return pd.DataFrame([row], columns=list(COLUMNS))


def _agreement(verdicts: pd.Series) -> str:
    """Whether verdicts agree, how many further replicates an open one takes aside."""
    kinds = verdicts.str.replace(
        r": ([\d,]+ more replicates?|no number of replicates would do|no interval)$", "", regex=True
    )
    counts = kinds.value_counts(sort=False)
    if len(counts) == 1:
        return f"all {len(verdicts)}: {kinds.iloc[0]}" if len(verdicts) > 1 else str(kinds.iloc[0])
    return "differ: " + ", ".join(f"{number} {kind}" for kind, number in counts.items())


def markdown(frame: pd.DataFrame) -> list[str]:
    """The summary as Markdown: the table, and what must not be made of its means."""
    effect = "effect [95 % interval; of means, lowest to highest]"
    header = ("comparison", "model", effect, f"{CORRECTION} p", "verdict", "replicates x images")
    lines = ["# One ablation for each model", ""]
    if frame.empty:
        return [*lines, "No model has test scores yet."]
    return [
        *lines,
        "Each line is a separate ablation, with verdicts adjusted for its own comparisons. Bold lines are means over "
        "the models, each counted once, with the lowest and the highest effect. They have no interval: models share "
        "seeds, training or test sets and are not independent, so that a mean says little about another model. No "
        "verdict rests on them.",
        "",
        *grid(header, map(_cells, frame.to_dict("records"))),
    ]


def _cells(row: Mapping[Any, Any]) -> list[str]:
    if row["study"]:
        size = format.effect_with_interval(row["effect"], row["low"], row["high"])
        count = f"{row['replicates']} x {row['images']}"
        return [row["comparison"], row["study"], size, format.probability(row["holm_p"]), row["verdict"], count]
    size = f"{format.effect(row['effect'])} ({format.effect(row['lowest'])} to {format.effect(row['highest'])})"
    return [f"**{row['comparison']}**", f"**mean, n = {row['models']}**", f"**{size}**", "", row["verdict"], ""]
