"""One table over the ablations of a protocol that has several models: each comparison on each model, and together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from harness.ablated import words
from harness.ablated.answers import verdicts
from harness.pages.markdown import grid
from harness.table import read, seed_of

COLUMNS = (
    *("comparison", "study", "effect", "low", "high", "holm_p", "verdict"),
    *("replicates", "images", "models"),
)
FEWEST = 3
"""Models below which their mean has no interval."""


def summary(storage: str, names: Sequence[str], folder: Path) -> pd.DataFrame:
    """The verdicts of every study, then a row with an empty ``study`` for the mean of the effects: `COLUMNS`.

    ``low`` and ``high``: of a study, its 95 % interval over replicates and patients; of the mean, a 95 % t interval
    over the studies, each counted once (``models`` of them), NaN for fewer than `FEWEST`. ``verdict``: of the mean,
    whether the studies agree. A study without a score that judges has no rows, and is not among ``models``.
    """
    rows = []
    for name in names:
        table = read(storage, name, folder)
        for one in verdicts(table, seed_of(table)).judged:
            effect = one.effect
            numbers = (effect.estimate, effect.low, effect.high, one.holm_p)
            counts = (effect.replicates, effect.images, 1)
            rows.append((effect.contrast, name, *numbers, words.told(one.verdict), *counts))
    found = pd.DataFrame(rows, columns=list(COLUMNS))
    parts = [part for name, own in found.groupby("comparison", sort=False) for part in (own, _together(str(name), own))]
    return pd.concat(parts, ignore_index=True) if parts else found


def _together(name: str, own: pd.DataFrame) -> pd.DataFrame:
    from scipy.special import stdtrit

    effects = own["effect"].dropna().to_numpy(dtype=float)
    mean, n = (float(effects.mean()) if len(effects) else math.nan), len(effects)
    half = float(stdtrit(n - 1, 0.975) * effects.std(ddof=1) / np.sqrt(n)) if n >= FEWEST else math.nan
    counts = (int(own["replicates"].sum()), int(own["images"].sum()), n)
    row = (name, "", mean, mean - half, mean + half, math.nan, _agreement(own["verdict"]), *counts)
    return pd.DataFrame([row], columns=list(COLUMNS))


def _agreement(told: pd.Series) -> str:
    """Whether verdicts agree, how many further replicates an open one takes aside."""
    kinds = told.str.replace(r": ([\d,]+ more replicates?|no number of replicates would do)$", "", regex=True)
    counts = kinds.value_counts(sort=False)
    if len(counts) == 1:
        return f"all {len(told)}: {kinds.iloc[0]}" if len(told) > 1 else str(kinds.iloc[0])
    return "differ: " + ", ".join(f"{number} {kind}" for kind, number in counts.items())


def markdown(frame: pd.DataFrame) -> list[str]:
    """The summary as Markdown: the table, and what must not be made of its means."""
    header = ("comparison", "model", "effect [95 % interval]", "Holm p", "verdict", "replicates x images")
    lines = ["# One ablation for each model", ""]
    if frame.empty:
        return [*lines, "No model has scores on a set that judges yet."]
    return [
        *lines,
        "Each line is an ablation of its own, with verdicts adjusted for its own comparisons. Bold lines are means "
        "over the models, each counted once, with a 95 % t interval over these n models: what another model of this "
        f"kind might show, as far as so few can tell; none for fewer than {FEWEST}. Models that share training or test "
        "sets are not independent, so that it is too narrow for them. No verdict is made from it.",
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
) -> list[str]:
    size = words.effected(effect, low, high)
    if study:
        return [comparison, study, size, words.probability(holm_p), verdict, f"{replicates} x {images}"]
    return [f"**{comparison}**", f"**mean, n = {models}**", f"**{size}**", "", verdict, ""]
