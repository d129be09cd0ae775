"""The findings of a search, as numbers: pure functions of its table. `harness.reports.search.page` puts them into
words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from harness.importance import Fanova, Importance, PedAnova, is_probe, of_pairs
from harness.importance.levels import cross, levels
from harness.importance.pairs import PAIR_COLUMNS, pairs
from harness.importance.regression import REGRESSION_COLUMNS, regression
from harness.record.objectives import front as pareto
from harness.record.outcome import KIND_OF
from harness.record.table import StudyTable, metric_of, objective_columns, ranking
from harness.reports.search.format import kind_of
from sam2lora.intervals import mean_interval
from sam2lora.metrics import reading

OUTCOMES = (*KIND_OF, "reused", "running", "waiting", "unreadable")
SCORE_COLUMNS = (
    *("place", "number", "key", "dataset", "role", "metric"),
    *("mean", "low", "high", "n", "clusters", "undefined", "oracle_prompt"),
)

Importances = tuple[tuple[Importance, pd.DataFrame], ...]


@dataclass(frozen=True)
class Cost:
    """The cost of the study. Seconds are sums over trials that ran, ``wall`` from the first start to the last end.

    ``peak_mib`` and the parameter counts are (lowest, highest) over trials; NaN where no trial has it.
    """

    wall: float
    setup: float
    train: float
    evaluate: float
    counted: int
    peak_mib: tuple[float, float]
    trainable: tuple[float, float]
    share: tuple[float, float]


@dataclass(frozen=True)
class Findings:
    """All numbers of a report.

    ``best``: rows of the trials with ``place`` in front, by validation score, each key once. ``scores``: their test
    scores per data set and metric (`SCORE_COLUMNS`). ``importance``: evaluator and table, in order, from the trials
    that the sampler chose; ``probed``: the same from the study's probe, empty without one: never mixed; ``pairs`` and
    ``probed_pairs``: what pairs of settings explain beyond their separate effects, in both kinds of trials, without
    rows where no evaluator measures pairs. ``regression``: of the probe's trials, else of the sampler's if it did not
    look at scores, else without rows (`harness.importance.regression`). ``metric``: the one of the (first) objective.
    ``front``: rows of the trials on the Pareto front of a search with several objectives, ``place`` in front, by the
    first objective; ``front_scores``: their test scores. ``levels`` and ``cross``: scores by level of categorical
    settings, as in `harness.importance.levels`. ``probe``: whether the sampler covered the space without looking at
    scores. ``oracle``: whether a trial was prompted from ground truth, which looks at labels of the images that it is
    scored on; ``mixed``: whether some completed trials were and others were not, so that their scores do not compare.
    """

    table: StudyTable
    metric: str
    outcomes: Mapping[str, int]
    best: pd.DataFrame
    scores: pd.DataFrame
    front: pd.DataFrame
    front_scores: pd.DataFrame
    levels: pd.DataFrame
    cross: pd.DataFrame
    importance: Importances
    probed: Importances
    pairs: pd.DataFrame
    probed_pairs: pd.DataFrame
    regression: pd.DataFrame
    cost: Cost
    probe: bool
    oracle: bool
    mixed: bool


def summarize(table: StudyTable, top: int, seed: int) -> Findings:
    """Everything but importance, which takes seconds: see `with_importance`. ``top``: how many best trials."""
    ranked, on_front = best(table, top), front(table)
    return Findings(
        table=table,
        metric=metric_of(table),
        outcomes=outcomes(table),
        best=ranked,
        scores=scores(table, ranked),
        front=on_front,
        front_scores=scores(table, on_front),
        levels=levels(table),
        cross=cross(table),
        importance=(),
        probed=(),
        pairs=pd.DataFrame(columns=list(PAIR_COLUMNS)),
        probed_pairs=pd.DataFrame(columns=list(PAIR_COLUMNS)),
        regression=pd.DataFrame(columns=list(REGRESSION_COLUMNS)),
        cost=cost(table),
        probe=is_probe(kind_of(table.question.get("sampler"))),
        oracle=bool(table.trials["oracle_prompt"].any()),
        mixed=ranking(table)["oracle_prompt"].nunique() > 1,
    )


EVALUATORS: tuple[Importance, ...] = (Fanova(), PedAnova())


def with_importance(findings: Findings, seed: int, evaluators: tuple[Importance, ...] = EVALUATORS) -> Findings:
    """``findings`` with the tables of every evaluator, of the sampler's trials and of the probe's.

    Equal seeds give equal tables, whichever other evaluators are asked.
    """
    trials, spreads = findings.table.trials, findings.table.distributions
    pairing = of_pairs(evaluators)

    def measure(part: pd.DataFrame, *, blind: bool) -> Importances:
        direction = findings.table.direction

        def by(how: Importance) -> pd.DataFrame:
            return how.importance(part, np.random.default_rng([seed, 2]), spreads, direction, blind=blind)

        return tuple((how, by(how)) for how in evaluators)

    def together(part: pd.DataFrame, *, blind: bool) -> pd.DataFrame:
        if pairing is None:
            return findings.pairs
        return pairs(pairing, part, np.random.default_rng([seed, 5]), spreads, blind=blind)

    trace, probe = trials[~trials["probe"]], trials[trials["probe"]]
    even = probe if len(probe) else trace
    findings = replace(
        findings,
        importance=measure(trace, blind=findings.probe),
        pairs=together(trace, blind=findings.probe),
        regression=regression(even, spreads) if findings.probe or len(probe) else findings.regression,
    )
    if probe.empty:
        return findings
    return replace(findings, probed=measure(probe, blind=True), probed_pairs=together(probe, blind=True))


def outcomes(table: StudyTable) -> dict[str, int]:
    """The number of trials by outcome, in the order of `OUTCOMES`; a reused trial counts as reused only."""
    own = table.trials["reused_from"].isna()
    counts = table.trials.loc[own, "outcome"].value_counts().to_dict() | {"reused": int((~own).sum())}
    return {name: int(counts[name]) for name in OUTCOMES if counts.get(name)}


def best(table: StudyTable, top: int) -> pd.DataFrame:
    """The ``top`` completed trials by validation score, the earlier first among equals, ``place`` from 1 in front.

    Where some trials were prompted from the ground truth and others were not, the ``top`` of each, as `ranking` has it.
    """
    ranked = ranking(table).groupby("oracle_prompt", sort=False).head(top).reset_index(drop=True)
    ranked = ranked.copy()  # of many single columns, into which pandas inserts with a warning
    ranked.insert(0, "place", range(1, len(ranked) + 1))
    return ranked


def front(table: StudyTable) -> pd.DataFrame:
    """The completed trials on the Pareto front, best first objective first; no row if the search has one objective.

    Trials that were prompted from the ground truth are on it only where there are no others: they do not compare.
    """
    ranked = best(table, len(table.trials))
    alike: pd.DataFrame = ranked[ranked["oracle_prompt"] == ranked["oracle_prompt"].min()]
    if len(table.objectives) == 1 or alike.empty:
        return alike.head(0)
    points = alike[objective_columns(table)].astype(float).to_numpy().tolist()
    chosen: pd.DataFrame = alike[pareto(points, list(table.objectives.values()))].reset_index(drop=True)
    return chosen.assign(place=range(1, len(chosen) + 1))


def scores(table: StudyTable, ranked: pd.DataFrame) -> pd.DataFrame:
    """Test scores of the ``ranked`` trials on every data set, each mean with an interval over patients.

    Where a trial's per-image file was left out, the recorded mean stands without an interval and without clusters, and
    ``undefined`` is what the record says, unknown (NaN) where it says nothing.
    """
    rows: list[dict[str, Any]] = []
    for trial in ranked.to_dict("records"):
        images = table.images[table.images["key"] == trial["key"]]
        known = _from_images(images) if len(images) else _from_record(trial, table.roles)
        named = {name: trial[name] for name in ("place", "number", "key", "oracle_prompt")}
        rows += [{**named, **row} for row in known]
    return pd.DataFrame(rows, columns=SCORE_COLUMNS)


def _from_images(images: pd.DataFrame) -> list[dict[str, Any]]:
    named = {"number", "key", "dataset", "role", "image", "patient", "pixels", "given", "threshold"}
    metrics = [name for name in images.columns if name not in named and pd.api.types.is_numeric_dtype(images[name])]
    rows = []
    # A trial's validation images chose the settings: only test images are evidence about them.
    for (dataset, role), part in images[images["role"] != "val"].groupby(["dataset", "role"], sort=True):
        for metric in metrics:
            interval = mean_interval(part[metric], part["patient"], reading(str(metric)).range)
            rows.append({"dataset": dataset, "role": role, "metric": metric, **asdict(interval)})
    return rows


def _from_record(trial: Mapping[Any, Any], roles: Mapping[str, str]) -> list[dict[str, Any]]:
    rows = []
    # A metric that no image defines has no mean, but a count.
    names = [str(column).split("/", 1) for column, value in trial.items() if not pd.isna(value)]
    for name in dict.fromkeys(rest for kind, *own in names for rest in own if kind in ("score", "undefined")):
        dataset, metric = name.split("/", 1)
        mean, undefined = (trial.get(f"{kind}/{name}", math.nan) for kind in ("score", "undefined"))
        known = {
            "dataset": dataset,
            "role": roles.get(dataset, "target"),
            "metric": metric,
            "mean": mean,
            "n": trial.get(f"n_images/{dataset}", math.nan) - (0 if pd.isna(undefined) else undefined),
            "undefined": undefined,
        }
        rows.append(known | dict.fromkeys(("low", "high", "clusters"), math.nan))
    return rows


def cost(table: StudyTable) -> Cost:
    """Sums over the trials that ran; a reused trial cost nothing."""
    ran = table.trials[table.trials["reused_from"].isna()]

    def column(name: str) -> pd.Series:
        return ran[f"cost/{name}"] if f"cost/{name}" in ran else pd.Series(math.nan, index=ran.index)

    share = column("trainable_parameters") / column("total_parameters")
    wall = (ran["finished"].max() - ran["started"].min()) if ran["finished"].notna().any() else None
    return Cost(
        wall=wall.total_seconds() if wall is not None else math.nan,
        setup=float(column("setup_seconds").sum()),
        train=float(column("train_seconds").sum()),
        evaluate=float(column("evaluate_seconds").sum()),
        counted=int(column("train_seconds").notna().sum()),
        peak_mib=_range(column("peak_mib")),
        trainable=_range(column("trainable_parameters")),
        share=_range(share),
    )


def _range(values: pd.Series) -> tuple[float, float]:
    return float(values.min()), float(values.max())
