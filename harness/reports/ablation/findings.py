"""The findings of an ablation, as numbers. The other modules of this package put them into words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.record.ablation_scores import RecordedAblation
from harness.record.table import StudyTable
from harness.reports.ablation.arm_searches import ArmSearches, arm_searches
from harness.reports.ablation.design import coalitions, reference, untrained
from harness.reports.ablation.fixed_vs_tuned import FixedVsTuned, compare_fixed_and_tuned
from harness.reports.ablation.judgement import Judgement
from harness.stats import aggregate, mixture, shapley
from harness.stats.aggregate import Aggregate
from harness.stats.arm_means import ArmMean, arm_means
from harness.stats.effects import Effect, effect
from harness.stats.missing_data import Missing, missing
from harness.stats.mixed_model import Mixed, mixed
from harness.stats.mixture import Mixture
from harness.stats.ranks import Rank, ranks
from harness.stats.refusal import Refused
from harness.stats.scores import Cells, Contrast, Floats
from harness.stats.variance_components import Variances, variances

Question = Callable[[shapley.Coalitions], tuple[Contrast, ...] | Refused]
UNSCORED = Refused("A comparison needs scores", "no trial has test scores", "let trials finish")


@dataclass(frozen=True)
class Findings(Judgement):
    """All numbers of a report, those of the verdicts included.

    ``effects``: every contrast on each target. ``means``: the arms on the test sets of the verdicts; ``sources``: the
    arms on the sources' test parts. ``ranks``: of the arms that train. ``shapley``, ``interactions``: of the components
    over the trained arms, refused where the design has none. ``training``: the gain of the trained arms over the
    untrained one, None without one. ``mixture``: the fitted surface and the mean score of each point, refused for
    another design. ``reference``: the arm that probabilities of improvement compare with. ``curves``: see `curves`;
    ``costs``: see `costs`. ``arm_searches``: the searches that tuned the arms; ``fixed_vs_tuned``: the comparison with
    the study that differs in tuning alone; each None where it does not apply.
    """

    effects: tuple[Effect, ...]
    means: tuple[ArmMean, ...]
    sources: tuple[ArmMean, ...]
    shapley: tuple[Effect, ...] | Refused
    interactions: tuple[Effect, ...] | Refused
    training: Effect | None
    mixture: tuple[Mixture, pd.DataFrame] | Refused
    variances: Variances | Refused
    mixed: Mixed | Refused
    ranks: tuple[Rank, ...] | Refused
    reference: str
    aggregates: tuple[Aggregate, ...]
    missing: Missing
    curves: pd.DataFrame
    costs: pd.DataFrame
    arm_searches: ArmSearches | Refused | None
    fixed_vs_tuned: FixedVsTuned | Refused | None

    @property
    def highest(self) -> ArmMean | None:
        """The highest mean over all targets of an arm that trains; None where none has a score."""
        empty = untrained(self.ablation)
        own = [one for one in self.means if one.target is None and one.arm != empty and np.isfinite(one.mean)]
        return max(own, key=lambda one: one.mean, default=None)


def analyse(judgement: Judgement, seed: int, folder: Path) -> Findings:
    """All findings after the verdicts, drawn from ``seed``. ``folder``: where results lie, as for
    `harness.record.table.read`."""
    table, ablation, scores, cells = judgement.table, judgement.ablation, judgement.scores, judgement.cells

    def rng(part: int) -> np.random.Generator:
        return np.random.default_rng([seed, part])

    scored = bool(cells.targets)
    base, empty = reference(ablation), untrained(ablation)
    return Findings(
        **vars(judgement),
        effects=tuple(one for judged in judgement.judged for one in judged.targets),
        means=arm_means(cells) if scored else (),
        sources=arm_means(scores.sources) if scores.sources.targets else (),
        shapley=_valued(cells, ablation, shapley.shapley_values, rng(3)) if scored else UNSCORED,
        interactions=_valued(cells, ablation, shapley.interactions, rng(4)) if scored else UNSCORED,
        training=_training(cells, empty, rng(12)) if scored else None,
        mixture=_mixture(cells, ablation, rng(5)) if scored else UNSCORED,
        variances=variances(cells.without(empty)) if scored else UNSCORED,
        mixed=mixed(cells, ablation.contrasts) if scored else UNSCORED,
        ranks=ranks(cells.without(empty)) if scored else UNSCORED,
        reference=base,
        aggregates=aggregate.aggregates(cells.without(empty), base, rng(6)) if scored else (),
        missing=missing(cells, rng(7), scores.asked),
        curves=curves(table, ablation),
        costs=costs(table, ablation),
        arm_searches=arm_searches(table, ablation, rng(8)),
        fixed_vs_tuned=compare_fixed_and_tuned(judgement, seed, folder),
    )


def _valued(
    cells: Cells, ablation: RecordedAblation, question: Question, rng: np.random.Generator
) -> tuple[Effect, ...] | Refused:
    """Shapley values or interactions, as effects over all targets; refused where none has an interval."""
    arms = coalitions(ablation)
    contrasts = arms if isinstance(arms, Refused) else question(arms)
    if isinstance(contrasts, Refused):
        return contrasts
    made = tuple(effect(cells, contrast, None, rng) for contrast in contrasts)
    if all(one.why for one in made):
        return Refused("What is shown of components has an interval", "none of it has one", made[0].why)
    return made


def _training(cells: Cells, empty: str | None, rng: np.random.Generator) -> Effect | None:
    """The gain of training itself: the mean over all trained arms minus the untrained arm, over all targets."""
    if empty is None:
        return None
    others = [arm for arm in cells.arms if arm != empty]
    weights = {empty: -1.0, **dict.fromkeys(others, 1.0 / len(others))}
    return effect(cells, Contrast("training", weights), None, rng)


def _mixture(
    cells: Cells, ablation: RecordedAblation, rng: np.random.Generator
) -> tuple[Mixture, pd.DataFrame] | Refused:
    if ablation.kind != "mixture":
        return Refused("A surface needs a mixture design", f"this one is {ablation.kind!r}", "declare a mixture")
    components = [str(name) for name in ablation.design["components"]]
    weights: Mapping[str, Mapping[str, float]] = ablation.design["points"]
    runs = mixture.mixture_runs(cells, weights)
    model: mixture.Model = "special_cubic" if len(weights) > 6 and len(components) > 2 else "quadratic"
    fitted = mixture.fit_mixture(runs, components, model, rng)
    if isinstance(fitted, Refused):
        return fitted
    fitted = mixture.over_patients(fitted, cells, weights)
    return fitted, runs.groupby(components, as_index=False).agg({"score": "mean"})


def curves(table: StudyTable, ablation: RecordedAblation) -> pd.DataFrame:
    """Validation by arm and epoch: arm, epoch, mean, low, high (95 % t interval over replicates), n replicates."""
    trials = table.trials[table.trials["outcome"] == "completed"]
    if "param/arm" not in trials or table.curves.empty:
        return pd.DataFrame(columns=["arm", "epoch", "mean", "low", "high", "n"])
    arm = dict(zip(trials["number"], trials["param/arm"], strict=True))
    points = table.curves[table.curves["number"].isin(arm)]
    grouped = points.assign(arm=points["number"].map(arm)).groupby(["arm", "epoch"])["score"]
    curves = grouped.agg(["mean", "std", "count"]).reset_index().rename(columns={"count": "n"})
    margin = _t(curves["n"].to_numpy()) * curves["std"].to_numpy() / np.sqrt(curves["n"].to_numpy())
    order = {name: place for place, name in enumerate(ablation.arms)}
    curves = curves.assign(low=curves["mean"] - margin, high=curves["mean"] + margin, place=curves["arm"].map(order))
    return curves.sort_values(["place", "epoch"])[["arm", "epoch", "mean", "low", "high", "n"]].reset_index(drop=True)


def _t(n: npt.NDArray[np.int64]) -> Floats:
    from scipy.special import stdtrit

    quantile: Floats = np.where(n > 1, -stdtrit(np.maximum(n - 1.0, 1.0), 0.025), np.nan)
    return quantile


def costs(table: StudyTable, ablation: RecordedAblation) -> pd.DataFrame:
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
