"""What an ablation found, as numbers. `harness.ablated.sections` puts them into words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.inference.cells import Cells
from harness.inference.effects import Effect, effects
from harness.inference.means import ArmMean, Best, arm_means, best_arms
from harness.inference.verdicts import Judged, judge
from harness.measured import Declared, Measured, declared, measured
from harness.table import StudyTable

ALPHA = 0.05


@dataclass(frozen=True)
class Answers:
    """Everything a report says.

    ``judged``: the family's verdicts. ``effects``: every contrast on each target. ``means``, ``sources``: every arm on
    the sets that judge, and on the sources' test parts. ``best``: the best arm, overall and on each target.
    ``curves``: validation score by arm and epoch, see `curves`. ``costs``: see `costs`.
    """

    table: StudyTable
    ablation: Declared
    measured: Measured
    judged: tuple[Judged, ...]
    effects: tuple[Effect, ...]
    means: tuple[ArmMean, ...]
    sources: tuple[ArmMean, ...]
    best: tuple[Best, ...]
    curves: pd.DataFrame
    costs: pd.DataFrame

    @property
    def cells(self) -> Cells:
        """The scores that judge."""
        return self.measured.cells


def answer(table: StudyTable, seed: int) -> Answers:
    """The numbers of an ablation's report; bootstraps and permutations are drawn from ``seed``.

    Raises ``RecordError`` when the study's declaration cannot be read or its scores lack the primary metric.
    """
    ablation = declared(table)
    found = measured(table, ablation)
    cells = found.cells

    def rng(part: int) -> np.random.Generator:
        return np.random.default_rng([seed, part])

    scored = bool(cells.targets)
    return Answers(
        table=table,
        ablation=ablation,
        measured=found,
        judged=judge(cells, ablation.contrasts, ablation.smallest, rng(1), ALPHA) if scored else (),
        effects=tuple(e for e in effects(cells, ablation.contrasts, rng(2)) if e.target) if scored else (),
        means=arm_means(cells) if scored else (),
        sources=arm_means(found.sources) if found.sources.targets else (),
        best=best_arms(cells) if scored else (),
        curves=curves(table, ablation),
        costs=costs(table, ablation),
    )


def curves(table: StudyTable, ablation: Declared) -> pd.DataFrame:
    """Validation by arm and epoch: arm, epoch, mean, low, high (95 % t interval over replicates), n replicates."""
    trials = table.trials[table.trials["outcome"] == "completed"]
    if "param/arm" not in trials or table.curves.empty:
        return pd.DataFrame(columns=["arm", "epoch", "mean", "low", "high", "n"])
    arm = dict(zip(trials["number"], trials["param/arm"], strict=True))
    points = table.curves[table.curves["number"].isin(arm)]
    grouped = points.assign(arm=points["number"].map(arm)).groupby(["arm", "epoch"])["score"]
    found = grouped.agg(["mean", "std", "size"]).reset_index().rename(columns={"size": "n"})
    margin = _t(found["n"].to_numpy()) * found["std"].to_numpy() / np.sqrt(found["n"].to_numpy())
    order = {name: place for place, name in enumerate(ablation.arms)}
    found = found.assign(low=found["mean"] - margin, high=found["mean"] + margin, place=found["arm"].map(order))
    return found.sort_values(["place", "epoch"])[["arm", "epoch", "mean", "low", "high", "n"]].reset_index(drop=True)


def _t(n: np.ndarray) -> np.ndarray:
    from scipy.special import stdtrit

    return np.where(n > 1, -stdtrit(np.maximum(n - 1.0, 1.0), 0.025), np.nan)


def costs(table: StudyTable, ablation: Declared) -> pd.DataFrame:
    """By arm: trials that ran, sums of seconds, highest peak memory, parameters trained, and how trials ended."""
    rows = []
    trials = table.trials
    for arm in ablation.arms:
        own = trials[trials["param/arm"] == arm] if "param/arm" in trials else trials.head(0)
        ran = own[own["reused_from"].isna()]
        cost = {name: ran[f"cost/{name}"] for name in _COSTS if f"cost/{name}" in ran}
        rows.append(
            {
                "arm": arm,
                "trials": len(own),
                **{kind: int((own["outcome"] == kind).sum()) for kind in ("completed", "diverged", "crashed")},
                "out_of_memory": int((own["outcome"] == "out_of_memory").sum()),
                "reused": int(own["reused_from"].notna().sum()),
                **{name: _summary(name, values) for name, values in cost.items()},
            }
        )
    return pd.DataFrame(rows)


_COSTS = ("train_seconds", "evaluate_seconds", "peak_mib", "trainable_parameters")


def _summary(name: str, values: pd.Series) -> float:
    """Seconds as their mean over trials, so that arms with failures compare; memory and parameters as the highest."""
    return float(values.mean() if name.endswith("seconds") else values.max())
