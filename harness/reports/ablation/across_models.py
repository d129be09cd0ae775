"""One table over the ablations of a protocol that has several models: each comparison on each model, and together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from harness.record.table import read, seed_of
from harness.reports.ablation import format
from harness.reports.ablation.findings import verdicts
from harness.reports.rendering.markdown import grid

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
        for one in verdicts(table, seed_of(table)).judged:
            effect = one.effect
            numbers = (effect.estimate, effect.low, effect.high, one.holm_p)
            counts = (effect.replicates, effect.images, 1, effect.estimate, effect.estimate)
            rows.append((effect.contrast, name, *numbers, format.told(one), *counts))
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    parts = [part for name, own in found.groupby("comparison", sort=False) for part in (own, _together(str(name), own))]
    return pd.concat(parts, ignore_index=True) if parts else found


def _together(name: str, own: pd.DataFrame) -> pd.DataFrame:
    effects = own["effect"].dropna()
    counts = (int(own["replicates"].sum()), int(own["images"].sum()), len(effects), effects.min(), effects.max())
    row = (name, "", effects.mean(), math.nan, math.nan, math.nan, _agreement(own["verdict"]), *counts)
    return pd.DataFrame([row], columns=list(COLUMNS))


def _agreement(told: pd.Series) -> str:
    """Whether verdicts agree, how many further replicates an open one takes aside."""
    kinds = told.str.replace(
        r": ([\d,]+ more replicates?|no number of replicates would do|no interval)$", "", regex=True
    )
    counts = kinds.value_counts(sort=False)
    if len(counts) == 1:
        return f"all {len(told)}: {kinds.iloc[0]}" if len(told) > 1 else str(kinds.iloc[0])
    return "differ: " + ", ".join(f"{number} {kind}" for kind, number in counts.items())


def markdown(frame: pd.DataFrame) -> list[str]:
    """The summary as Markdown: the table, and what must not be made of its means."""
    header = (
        "comparison",
        "model",
        "effect [95 % interval; of means, lowest to highest]",
        "Holm p",
        "verdict",
        "replicates x images",
    )
    lines = ["# One ablation for each model", ""]
    if frame.empty:
        return [*lines, "No model has scores on a set that judges yet."]
    return [
        *lines,
        "Each line is an ablation of its own, with verdicts adjusted for its own comparisons. Bold lines are means "
        "over the models, each counted once, with the lowest and the highest of them. They have no interval: models "
        "share seeds, training or test sets and are not independent, so that a mean says little of another model. No "
        "verdict is made from them.",
        "",
        *grid(header, [_cells(*row) for row in frame.itertuples(index=False, name=None)]),
    ]


def _cells(
    comparison: str,
    study: str,
    effect: float,
    low: float,
    high: float,
    holm_p: float,
    verdict: str,
    replicates: int,
    images: int,
    models: int,
    lowest: float,
    highest: float,
) -> list[str]:
    if study:
        size = format.effected(effect, low, high)
        return [comparison, study, size, format.probability(holm_p), verdict, f"{replicates} x {images}"]
    size = f"{format.effect(effect)} ({format.effect(lowest)} to {format.effect(highest)})"
    return [f"**{comparison}**", f"**mean, n = {models}**", f"**{size}**", "", verdict, ""]
