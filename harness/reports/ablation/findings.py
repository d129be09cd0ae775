"""What an ablation found, as numbers. The other modules of this package put them into words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from harness.record.ablation_scores import Declared, Measured, declared, measured
from harness.record.table import StudyTable
from harness.reports.ablation.arm_searches import Tuned, tuned
from harness.reports.ablation.fixed_vs_tuned import Beside, beside, other
from harness.stats import aggregate, mixture, shapley
from harness.stats.aggregate import Aggregate
from harness.stats.arm_means import ArmMean, arm_means
from harness.stats.effects import Effect, effect
from harness.stats.interplay import Interplay, Pairing, crossed_pairings, interplays
from harness.stats.interplay import pairings as factorial_pairings
from harness.stats.missing_data import Missing, missing
from harness.stats.mixed_model import Mixed, mixed
from harness.stats.mixture import Mixture
from harness.stats.ranks import Rank, ranks
from harness.stats.refusal import Refused
from harness.stats.scores import Cells, Contrast, Floats
from harness.stats.sequential import ALPHA, Looks, judge_looks
from harness.stats.variance_components import Variances, variances
from harness.stats.verdicts import Judged

Question = Callable[[shapley.Coalitions], tuple[Contrast, ...] | Refused]
UNSCORED = Refused("A comparison needs scores", "no trial has scores on a set that judges", "let trials finish")


@dataclass(frozen=True)
class Verdicts:
    """What is said first, since it takes the least time: the scores, the looks, the verdicts of the family, and the
    pairs of contrasts of which a main effect says too little (`harness.stats.interplay`)."""

    table: StudyTable
    ablation: Declared
    measured: Measured
    looks: Looks
    judged: tuple[Judged, ...]
    interplays: tuple[Interplay, ...] = ()

    @property
    def cells(self) -> Cells:
        """The scores that judge."""
        return self.measured.cells


@dataclass(frozen=True)
class Answers:
    """Everything a report says.

    ``effects``: every contrast on each target. ``means``, ``sources``: every arm on the sets that judge, and on the
    sources' test parts. ``ranks``: of the arms that train. ``shapley``, ``interactions``: of the
    components over the arms that are trained, refused where the design has none; ``training``: what these arms gain on
    the untrained one, where there is one. ``mixture``: the surface, of a mixture design only, with its points'
    mean scores. ``reference``: the arm that probabilities of improvement are over, see `reference`. ``curves``:
    validation score by arm and epoch, see `curves`; ``costs``: see `costs`. ``tuned``: what the arms' own searches
    found, ``beside``: the study with fixed settings beside the one with tuned ones; each None where there is no such
    thing.
    """

    verdicts: Verdicts
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
    tuned: Tuned | Refused | None
    beside: Beside | Refused | None

    @property
    def highest(self) -> ArmMean | None:
        """The highest mean over all targets of an arm that trains; None where none has a score."""
        empty = untrained(self.ablation)
        own = [one for one in self.means if one.target is None and one.arm != empty and np.isfinite(one.mean)]
        return max(own, key=lambda one: one.mean, default=None)

    @property
    def table(self) -> StudyTable:
        """The study."""
        return self.verdicts.table

    @property
    def ablation(self) -> Declared:
        """What was declared."""
        return self.verdicts.ablation

    @property
    def measured(self) -> Measured:
        """The scores and what was left out."""
        return self.verdicts.measured

    @property
    def cells(self) -> Cells:
        """The scores that judge."""
        return self.verdicts.measured.cells

    @property
    def judged(self) -> tuple[Judged, ...]:
        """The family's verdicts."""
        return self.verdicts.judged


def verdicts(table: StudyTable, seed: int) -> Verdicts:
    """The verdicts of an ablation; bootstraps and permutations are drawn from ``seed``.

    Raises ``RecordError`` when the study's declaration cannot be read or its scores lack the primary metric.
    """
    ablation = declared(table)
    found = measured(table, ablation)
    scored = bool(found.cells.targets)
    rng = np.random.default_rng([seed, 1])
    looks = looks_of(table, found)
    kept = [one.get("tests") for one in table.looks.get("done", ())]
    judged = judge_looks(found.cells, ablation.contrasts, ablation.smallest, looks, rng, ALPHA, kept) if scored else ()
    pairs = _interplays(ablation, found.cells, looks, judged, np.random.default_rng([seed, 11]))
    return Verdicts(table, ablation, found, looks, judged, pairs)


def _interplays(
    ablation: Declared, cells: Cells, looks: Looks, judged: tuple[Judged, ...], rng: np.random.Generator
) -> tuple[Interplay, ...]:
    """With the error that the last look may make; none before the first."""
    if not looks.done:
        return ()
    mains = {one.effect.contrast: one.effect.estimate for one in judged}
    among = [pair for pair in pairings(ablation) if pair.one in mains and pair.other in mains]
    return interplays(cells, among, mains, rng, looks.errors[looks.done - 1])


def pairings(ablation: Declared) -> tuple[Pairing, ...]:
    """The pairs of contrasts whose interaction the design can tell; none where it has no two factors crossed."""
    if ablation.kind == "crossed":
        design = ablation.design
        arms = {(one, other): f"{one} {other}" for one in design["first"] for other in design["second"]}
        named = next((pair for pair, arm in arms.items() if arm == design["reference"]), None)
        return crossed_pairings(arms, named) if named and set(arms.values()) == set(ablation.arms) else ()
    arms_of = coalitions(ablation)
    return () if isinstance(arms_of, Refused) else factorial_pairings(arms_of)


def looks_of(table: StudyTable, found: Measured) -> Looks:
    """The looks of a study; of one that ended before they were kept, the one at its end."""
    if table.looks:
        return Looks.of(table.looks)
    end = Looks().planned((len(found.cells.replicates),))
    return end.looked() if found.ended else end


def answer(first: Verdicts, seed: int, folder: Path) -> Answers:
    """The rest of the numbers, drawn from ``seed``; results lie in ``folder``, as for `harness.record.table.read`."""
    table, ablation, found, cells = first.table, first.ablation, first.measured, first.cells

    def rng(part: int) -> np.random.Generator:
        return np.random.default_rng([seed, part])

    scored = bool(cells.targets)
    base, empty = reference(ablation), untrained(ablation)
    return Answers(
        verdicts=first,
        effects=tuple(one for judged in first.judged for one in judged.targets),
        means=arm_means(cells) if scored else (),
        sources=arm_means(found.sources) if found.sources.targets else (),
        shapley=_valued(cells, ablation, shapley.shapley_values, rng(3)) if scored else UNSCORED,
        interactions=_valued(cells, ablation, shapley.interactions, rng(4)) if scored else UNSCORED,
        training=_training(cells, empty, rng(12)) if scored else None,
        mixture=_mixture(cells, ablation, rng(5)) if scored else UNSCORED,
        variances=variances(cells.without(empty)) if scored else UNSCORED,
        mixed=mixed(cells, ablation.contrasts) if scored else UNSCORED,
        ranks=ranks(cells.without(empty)) if scored else UNSCORED,
        reference=base,
        aggregates=aggregate.aggregates(cells.without(empty), base, rng(6)) if scored else (),
        missing=missing(cells, rng(7), found.asked),
        curves=curves(table, ablation),
        costs=costs(table, ablation),
        tuned=tuned(table, ablation, rng(8)),
        beside=fixed_and_tuned(first, seed, folder),
    )


def fixed_and_tuned(first: Verdicts, seed: int, folder: Path) -> Beside | Refused | None:
    """The study beside its other one, see `harness.reports.ablation.fixed_vs_tuned.other`; drawn from ``seed``."""
    found = other(first.table, first.ablation, folder)
    if not isinstance(found, StudyTable):
        return found
    second = verdicts(found, seed)
    fixed, after = (second, first) if first.ablation.tuned else (first, second)
    return beside(fixed, after, untrained(fixed.ablation), np.random.default_rng([seed, 9]))


def reference(ablation: Declared) -> str:
    """The arm that others are set beside: the one its design records, the first that trains where an older has none."""
    named = ablation.design.get("reference")
    if isinstance(named, str) and named in ablation.arms:
        return named
    empty = untrained(ablation)
    return next(arm for arm in ablation.arms if arm != empty)


def untrained(ablation: Declared) -> str | None:
    """The arm of a factorial over losses that trains nothing, if it has one."""
    if not ablation.design.get("empty") or not ablation.components:
        return None
    held = zip(*ablation.components.values(), strict=True)
    return next((arm for arm, own in zip(ablation.arms, held, strict=True) if not any(own)), None)


def coalitions(ablation: Declared) -> shapley.Coalitions | Refused:
    """The coalition of each arm that is trained; refused where arms are no coalitions of components.

    Against the untrained arm any component would seem to do all the work, and any two each other's.
    """
    if not ablation.components:
        return Refused(
            "Components need a factorial design", f"this one is {ablation.kind!r}", "read the contrasts instead"
        )
    held = {
        name: [arm for arm, has in zip(ablation.arms, holds, strict=True) if has]
        for name, holds in ablation.components.items()
    }
    try:
        found = shapley.coalitions(held, ablation.arms)
    except ValueError as error:
        return Refused("Arms must be coalitions of components", str(error).rstrip("."), "read the contrasts instead")
    empty = untrained(ablation)
    return {own: arm for own, arm in found.items() if arm != empty}


def _valued(
    cells: Cells, ablation: Declared, question: Question, rng: np.random.Generator
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
    """What training as such brings: the mean over all trained arms less the untrained one, over all targets."""
    if empty is None:
        return None
    others = [arm for arm in cells.arms if arm != empty]
    weights = {empty: -1.0, **dict.fromkeys(others, 1.0 / len(others))}
    return effect(cells, Contrast("training", weights), None, rng)


def _mixture(cells: Cells, ablation: Declared, rng: np.random.Generator) -> tuple[Mixture, pd.DataFrame] | Refused:
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


def curves(table: StudyTable, ablation: Declared) -> pd.DataFrame:
    """Validation by arm and epoch: arm, epoch, mean, low, high (95 % t interval over replicates), n replicates."""
    trials = table.trials[table.trials["outcome"] == "completed"]
    if "param/arm" not in trials or table.curves.empty:
        return pd.DataFrame(columns=["arm", "epoch", "mean", "low", "high", "n"])
    arm = dict(zip(trials["number"], trials["param/arm"], strict=True))
    points = table.curves[table.curves["number"].isin(arm)]
    grouped = points.assign(arm=points["number"].map(arm)).groupby(["arm", "epoch"])["score"]
    found = grouped.agg(["mean", "std", "count"]).reset_index().rename(columns={"count": "n"})
    margin = _t(found["n"].to_numpy()) * found["std"].to_numpy() / np.sqrt(found["n"].to_numpy())
    order = {name: place for place, name in enumerate(ablation.arms)}
    found = found.assign(low=found["mean"] - margin, high=found["mean"] + margin, place=found["arm"].map(order))
    return found.sort_values(["place", "epoch"])[["arm", "epoch", "mean", "low", "high", "n"]].reset_index(drop=True)


def _t(n: npt.NDArray[np.int64]) -> Floats:
    from scipy.special import stdtrit

    quantile: Floats = np.where(n > 1, -stdtrit(np.maximum(n - 1.0, 1.0), 0.025), np.nan)
    return quantile


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
