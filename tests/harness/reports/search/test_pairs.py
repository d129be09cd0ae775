"""Pairs of settings: exact terms of a forest against a grid, joint effects that are there and some that are not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator
from sklearn.ensemble import RandomForestRegressor

from harness.importance import Fanova
from harness.importance.forest import points, shares
from harness.importance.pairs import MINIMUM, PAIR_COLUMNS, pairs
from harness.record.table import read
from harness.reports.build import write
from harness.reports.search.report import SearchReport
from harness.tracking.mlflow_tracking import MlflowTracking

HINT = MlflowTracking("sqlite:///mlflow.db").hint("study")

SPREADS: dict[str, BaseDistribution] = {
    "param/a": FloatDistribution(0.0, 2.0),
    "param/b": FloatDistribution(1e-4, 1e-1, log=True),
    "param/c": IntDistribution(1, 8),
    "param/k": CategoricalDistribution(["x", "y", "z"]),
}
FAST = Fanova(trees=24, resample_trees=6, bootstraps=8, shuffles=19)


def text_of(made: SearchReport) -> str:
    return (made.folder / "report.md").read_text()


def sample(n: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "number": range(n),
            "key": [str(index) for index in range(n)],
            "outcome": "completed",
            "param/a": rng.uniform(0, 2, n),
            "param/b": 10 ** rng.uniform(-4, -1, n),
            "param/c": rng.integers(1, 9, n),
            "param/k": rng.choice(["x", "y", "z"], n),
            "value": rng.normal(0, 1e-3, n),
        }
    )


def centred(trials: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    return trials["param/a"] - 1, (np.log10(trials["param/b"]) + 2.5) / 1.5


def of(table: pd.DataFrame, first: str, second: str) -> pd.Series:
    return table.set_index(["first", "second"]).loc[(first, second)]


def test_shares_are_those_of_the_forest_on_a_full_grid() -> None:
    trials = sample(25)
    a, b = centred(trials)
    scores = (a * b + 0.3 * trials["param/c"] + a * (trials["param/k"] == "y")).to_numpy()
    where = points(trials, SPREADS)
    couples = list(combinations(range(4), 2))
    forest = RandomForestRegressor(n_estimators=4, max_depth=64, random_state=7).fit(where.values, scores)
    expected = np.mean([on_grid(tree, couples) for tree in forest.estimators_], axis=0)
    np.testing.assert_allclose(shares(where, scores, couples, 4, 7), expected, atol=1e-10)


def on_grid(tree: object, couples: list[tuple[int, int]]) -> np.ndarray:
    """Shares from predictions at the midpoint of every cell between the splits of ``tree``, with every category."""
    cells, weights = [], []
    for column, (low, high) in enumerate([(0.0, 2.0), (-4.0, -1.0), (0.5, 8.5)]):
        edges = np.unique([low, high, *tree.tree_.threshold[tree.tree_.feature == column]])
        cells.append((edges[1:] + edges[:-1])[:, None] / 2)
        weights.append(np.diff(edges) / (high - low))
    cells.append(np.eye(3))
    weights.append(np.full(3, 1 / 3))
    values = tree.predict([np.concatenate(cell) for cell in product(*cells)]).reshape([len(w) for w in weights])

    def mean_over(kept: tuple[int, ...]) -> np.ndarray:
        reduced = values
        for axis in reversed(range(4)):
            if axis not in kept:
                reduced = np.tensordot(reduced, weights[axis], axes=(axis, 0))
        return reduced

    def variance(kept: tuple[int, ...]) -> float:
        mass = np.ones(())
        for axis in kept:
            mass = np.multiply.outer(mass, weights[axis])
        return float(np.sum(mass * (mean_over(kept) - mean_over(())) ** 2))

    single = [variance((axis,)) for axis in range(4)]
    joint = [variance(pair) - single[pair[0]] - single[pair[1]] for pair in couples]
    return np.array(single + joint) / variance((0, 1, 2, 3))


def test_single_shares_of_continuous_numbers_are_optunas() -> None:
    spreads = {"u": FloatDistribution(0.0, 2.0), "v": FloatDistribution(-1.0, 3.0)}
    rng = np.random.default_rng(0)
    trials = pd.DataFrame({name: rng.uniform(one.low, one.high, 30) for name, one in spreads.items()})
    scores = (trials["u"] * trials["v"]).to_numpy()
    study = optuna.create_study()
    study.add_trials(
        optuna.trial.create_trial(params={"u": float(u), "v": float(v)}, distributions=spreads, value=float(y))
        for u, v, y in zip(trials["u"], trials["v"], scores, strict=True)
    )
    theirs = FanovaImportanceEvaluator(n_trees=8, seed=3).evaluate(study)
    ours = shares(points(trials, spreads), scores, [], 8, 3)
    np.testing.assert_allclose(ours, [theirs[name] for name in spreads], rtol=1e-9)


def test_every_integer_has_the_same_share_the_ends_included() -> None:
    """One of three, of three steps of two, of four on a log scale: the share of a setting that matters at one end."""
    two, rng = IntDistribution(0, 1), np.random.default_rng(0)
    for spread, at, expected in (
        (IntDistribution(1, 3), 1, 2 / 9),
        (IntDistribution(2, 6, step=2), 6, 2 / 9),
        (IntDistribution(1, 4, log=True), 4, None),
    ):
        values = rng.permutation(np.repeat(np.arange(spread.low, spread.high + 1, spread.step), 60))
        other = rng.integers(0, 2, len(values))
        scores = 1.0 * (values == at) + other
        found = shares(points(pd.DataFrame({"x": values, "y": other}), {"x": spread, "y": two}), scores, [], 16, 0)
        if expected is None:  # a value's extent on the log scale, half a step to either side
            cell = np.log(4.5 / 3.5) / np.log(4.5 / 0.5)
            expected = cell * (1 - cell)
        assert found[0] == pytest.approx(expected / (expected + 0.25), abs=0.02)


def test_two_settings_and_their_pair_explain_the_whole() -> None:
    trials = sample(40)
    two = {name: SPREADS[name] for name in ("param/a", "param/k")}
    scores = np.random.default_rng(1).normal(size=40)
    assert shares(points(trials, two), scores, [(0, 1)], 8, 0).sum() == pytest.approx(1.0)
    assert shares(points(trials, two), np.ones(40), [(0, 1)], 8, 0).tolist() == [0.0, 0.0, 0.0]


def test_a_product_stands_out_and_comes_first() -> None:
    trials = sample(60)
    a, b = centred(trials)
    table = pairs(FAST, trials.assign(value=trials["value"] + a * b), np.random.default_rng(0), SPREADS, blind=True)
    assert tuple(table.columns) == PAIR_COLUMNS
    assert len(table) == 6
    first = table.iloc[0]
    assert (first["first"], first["second"], first["n"]) == ("param/a", "param/b", 60)
    assert first["importance"] > first["chance"]
    assert first["rank"] == 1
    assert first["is_first"] == 1.0
    assert ((table["low"] <= table["importance"]) & (table["importance"] <= table["high"])).all()


def test_two_strong_separate_effects_are_no_joint_one() -> None:
    """Shuffled scores alone would let this pair pass: the bound that separate effects reach is what stops it."""
    above = []
    for seed in range(6):
        trials = sample(40, seed)
        a, b = centred(trials)
        value = a + b + np.random.default_rng(seed).normal(0, 0.1, 40)
        two = {name: SPREADS[name] for name in ("param/a", "param/b", "param/c")}
        row = of(
            pairs(FAST, trials.assign(value=value), np.random.default_rng(seed), two, blind=True), "param/a", "param/b"
        )
        above.append(row["importance"] > row["chance"])
        assert row["importance"] < 0.2
    assert sum(above) <= 1


def test_equal_scores_give_zeros_and_equal_seeds_equal_tables() -> None:
    trials = sample(35)
    flat = pairs(FAST, trials.assign(value=0.5), np.random.default_rng(0), SPREADS, blind=True)
    assert (flat[["importance", "low", "high", "chance"]] == 0.0).all(axis=None)
    first, second = (pairs(FAST, trials, np.random.default_rng(4), SPREADS, blind=True) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


def test_too_few_trials_are_refused_with_what_is_needed() -> None:
    table = pairs(FAST, sample(MINIMUM - 1), np.random.default_rng(0), SPREADS, blind=True)
    assert table["importance"].isna().all()
    assert table["note"].str.contains(f"needs {MINIMUM} completed").all()
    assert table["note"].str.contains("there are 29").all()
    assert pairs(FAST, sample(40), np.random.default_rng(0), {}, blind=True).empty


def test_conditional_settings_are_measured_where_both_are_there_or_refused() -> None:
    trials = sample(90)
    a, b = centred(trials)
    trials = trials.assign(
        value=a * b,
        **{
            "param/b": trials["param/b"].where(trials["number"] >= 20),
            "param/c": trials["param/c"].where(trials["number"] < 45),
        },
    )
    table = pairs(FAST, trials, np.random.default_rng(0), SPREADS, blind=True)
    joint = of(table, "param/a", "param/b")
    assert (joint["n"], joint["present"]) == (70, 70)
    assert joint["note"] == "among the 70 of 90 trials that have both"
    assert joint["importance"] > joint["chance"]
    assert pd.isna(joint["rank"]), "its share is of another variance than those of all trials"
    refused = of(table, "param/b", "param/c")
    assert np.isnan(refused["importance"])
    assert refused["present"] == 25
    assert "both are in 25 of them" in refused["note"]
    assert of(table, "param/a", "param/k")["rank"] == 1


def test_weights_of_one_simplex_and_constants_are_refused() -> None:
    trials = sample(40).assign(**{"weight/x": np.linspace(0, 1, 40), "weight/y": np.linspace(1, 0, 40), "param/a": 1.0})
    spreads = {"weight/x": FloatDistribution(0.0, 1.0), "weight/y": FloatDistribution(0.0, 1.0)} | SPREADS
    table = pairs(FAST, trials, np.random.default_rng(0), spreads, blind=True)
    assert "simplex" in of(table, "weight/x", "weight/y")["note"]
    assert "constant" in of(table, "param/a", "weight/x")["note"]
    assert np.isfinite(of(table, "param/b", "weight/x")["importance"])


def test_a_report_shows_pairs_with_their_interval_chance_and_trials_apart_from_the_probes(
    fabricate: Callable[..., Any], add_trial: Callable[..., str], tmp_path: Path
) -> None:
    def fill(study: optuna.Study, runs: Path) -> None:
        rng = np.random.default_rng(0)
        for number in range(32 + 20):
            attributes = {"probe": True, "point": number} if number >= 32 else {}
            add_trial(study, runs, rng, "completed", images="missing", attributes=attributes)

    record = fabricate(fill)
    made = write(
        read(record.url, record.name, record.runs),
        tmp_path,
        HINT,
        evaluators=(FAST,),
    )
    assert isinstance(made, SearchReport)
    probe, _, trace = text_of(made).partition("## Which settings mattered")[2].partition("**A trace is not a probe.**")
    assert "needs 30 completed trials that have both, there are 20" in probe
    table = trace.partition("### Pairs, fANOVA")[2].partition("\n### ")[0].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(lines) == 1 + 1 + 7, "five settings have ten pairs, three of them of weights of one simplex"
    assert all(" to " in line and line.split("|")[7].strip() == "32" for line in lines[2:])
    assert ": weights of one simplex" in table
    frame = pd.read_csv(made.folder / "importance_pairs.csv")
    assert frame.groupby("probe")["n"].unique().map(list).to_dict() == {False: [32], True: [20]}
