"""What a report says of several objectives, of constraints, and of the levels of categorical settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import TrialState, create_trial
from pandas.testing import assert_frame_equal

from harness.importance import PedAnova
from harness.importance.levels import cross, levels
from harness.record.table import StudyTable, read
from harness.reports.build import write
from harness.reports.figures import cross as cross_figure
from harness.reports.figures import pareto as pareto_figure
from harness.reports.search.findings import summarize
from harness.reports.search.report import SearchReport
from harness.tracking.mlflow_tracking import MlflowTracking

MLFLOW = MlflowTracking("sqlite:///runs/mlflow.db").hint("study")
FAST = (PedAnova(bootstraps=4, shuffles=4),)
ROLES = {"drive": "source", "hrf": "target"}
SPREADS: dict[str, BaseDistribution] = {
    "mode": CategoricalDistribution(["none", "box"]),
    "rank": CategoricalDistribution([2, 8, 32]),
}
OBJECTIVES = ["val/dice", "trainable_parameters", "train_seconds"]
# mode, rank -> Dice, parameters, seconds: two on the front, one beaten by the first in everything
TRIALS = {
    ("none", 2): (0.5, 200.0, 9.0),
    ("box", 8): (0.7, 800.0, 12.0),
    ("none", 8): (0.4, 800.0, 13.0),
}


def text_of(made: SearchReport) -> str:
    return (made.folder / "report.md").read_text()


def images(folder: Path, key: str, dice: float) -> None:
    rows = [
        {"key": key, "dataset": name, "role": role, "image": f"{i}", "patient": f"p{i}", "dice": dice + 0.01 * (i - 2)}
        for name, role in ROLES.items()
        for i in range(5)
    ]
    path = folder / "trials" / key / "images.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(path)


def attributes(key: str, outcome: str, dice: float = 0.0) -> dict[str, Any]:
    done = outcome == "completed"
    return {
        "key": key,
        "config": json.dumps({"loss": {"terms": []}, "adapter": {"kind": "lora"}}),
        "oracle_prompt": False,
        "replicate": {"seed": 0, "fold": 0},
        "outcome": {"kind": outcome, "epoch": 2 if done else 0, "why": ""},
        "curve": [{"epoch": 1, "score": dice / 2}, {"epoch": 2, "score": dice}] if done else [],
        "roles": ROLES if done else {},
        "scores": {f"{name}/dice": dice for name in ROLES} if done else {},
        "cost": {"train_seconds": 1.0} if done else {},
    }


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> StudyTable:
    """Three completed trials of three objectives, one that diverged and two that missed a constraint."""
    runs = tmp_path_factory.mktemp("several") / "runs"
    runs.mkdir()
    url = f"sqlite:///{runs / 'optuna.db'}"
    ways = ["maximize", "minimize", "minimize"]
    study = optuna.create_study(storage=url, study_name="pareto", directions=ways)
    constraint = {"kind": "trainable_share", "below": 0.05}
    question = {"search": "pareto", "sources": ["drive"], "targets": ["hrf"], "epochs": 2, "seed": 0}
    asked = {"objectives": OBJECTIVES, "directions": ways, "constraints": [constraint], "sampler": {"kind": "grid"}}
    study.set_user_attr("question", question | asked)
    for number, ((mode, rank), values) in enumerate(TRIALS.items()):
        key = f"k{number}"
        images(runs / "pareto", key, values[0])
        study.add_trial(
            create_trial(
                values=list(values),
                params={"mode": mode, "rank": rank},
                distributions=SPREADS,
                user_attrs=attributes(key, "completed", values[0]),
                constraints={"trainable_share": -0.01},
            )
        )
    for outcome, excess in (("diverged", -0.01), ("infeasible", 0.02), ("infeasible", 0.4)):
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                values=[0.0, np.inf, np.inf],
                params={"mode": "none", "rank": 32},
                distributions=SPREADS,
                user_attrs=attributes(f"{outcome}{excess}", outcome),
                constraints={"trainable_share": excess},
            )
        )
    return read(url, "pareto", runs)


@pytest.fixture(scope="module")
def report(several: StudyTable, tmp_path_factory: pytest.TempPathFactory) -> SearchReport:
    return write(several, tmp_path_factory.mktemp("out"), MLFLOW, evaluators=FAST)


def test_the_table_holds_every_objective_of_completed_trials_alone(several: StudyTable) -> None:
    assert several.objectives == dict(zip(OBJECTIVES, ["maximize", "minimize", "minimize"], strict=True))
    done = several.trials[several.trials["outcome"] == "completed"]
    columns = ["value", "objective/trainable_parameters", "objective/train_seconds"]
    assert [tuple(row) for row in done[columns].to_numpy().tolist()] == list(TRIALS.values())
    assert several.trials.loc[several.trials["outcome"] != "completed", columns].isna().all(axis=None)
    assert several.trials["constraint/trainable_share"].tolist() == [-0.01] * 4 + [0.02, 0.4]


def test_the_front_holds_what_nothing_beats(report: SearchReport) -> None:
    assert report.findings.front["number"].tolist() == [1, 0]
    assert report.summary["front/trials"] == 2
    assert "| 1 | 0.700 | 800 | 12 |" in text_of(report)
    assert "| 0 | 0.500 | 200 | 9 |" in text_of(report)
    front = text_of(report).partition("## The Pareto front")[2].partition("\n## ")[0]
    assert "2 of 3 completed trials" in front
    assert "wall-clock time on the machine" in front
    assert "hrf (5 images, 5 patients)" in front
    assert "![" in front
    assert pd.read_csv(report.folder / "front.csv")["number"].tolist() == [1, 0]
    assert (report.folder / "pareto.png").stat().st_size > 1000


def test_infeasible_proposals_are_counted_with_their_constraint(report: SearchReport) -> None:
    assert report.findings.outcomes == {"completed": 3, "diverged": 1, "infeasible": 2}
    assert "| trainable_share (below 0.05) | 2 | 0.02 to 0.4 |" in text_of(report)
    assert "never trained" in text_of(report)


def test_importance_of_several_objectives_says_whose_it_is(report: SearchReport) -> None:
    assert "Importance is that of validation Dice" in text_of(report)


def test_levels_are_means_over_their_trials(several: StudyTable) -> None:
    told = levels(several).set_index(["parameter", "level", "dataset"])
    assert told.loc[("param/mode", "none", "validation"), "mean"] == pytest.approx(0.45)
    assert told.loc[("param/mode", "none", "validation"), "n"] == 2
    row = told.loc[("param/mode", "none", "hrf")]
    assert row["mean"] == pytest.approx(0.45)
    assert (row["trials"], row["n"], row["clusters"]) == (2, 5, 5)
    assert row["low"] < row["mean"] < row["high"]
    alone = told.loc[("param/rank", "2", "validation")]
    assert np.isnan(alone["low"]), "one trial has no spread"
    assert told.loc[("param/rank", "32", "validation"), "trials"] == 0


def test_a_grid_of_two_settings_shows_every_combination(several: StudyTable, report: SearchReport) -> None:
    cells = cross(several).set_index(["row", "column"])
    assert len(cells) == 6
    assert cells.loc[("8", "box"), "validation"] == 0.7
    assert cells.loc[("8", "box"), "target"] == pytest.approx(0.7)
    assert np.isnan(cells.loc[("32", "none"), "validation"])
    assert "| rank / mode | none | box |" in text_of(report)
    assert "| 8 | 0.400 (1) | 0.700 (1) |" in text_of(report)
    assert "| 32 | none | none |" in text_of(report)
    assert (report.folder / "cross.png").is_file()


def test_levels_keep_a_probe_apart(several: StudyTable, report: SearchReport, tmp_path: Path) -> None:
    """The second trial becomes one of a probe: the sampler's tables are as if it were not there."""
    trials = several.trials.assign(probe=several.trials["number"] == 1)
    mixed = replace(several, trials=trials, question=several.question | {"sampler": {"kind": "tpe"}})
    alone = replace(several, trials=trials[~trials["probe"]])
    told, without = (levels(table) for table in (mixed, alone))
    assert_frame_equal(told[~told["probe"]].reset_index(drop=True), without)
    of_probe = told[told["probe"]].set_index(["parameter", "level", "dataset"])
    assert of_probe.loc[("param/mode", "box", "validation"), "trials"] == 1
    assert of_probe.loc[("param/mode", "none", "validation"), "trials"] == 0
    cells = cross(mixed)
    assert_frame_equal(cells[~cells["probe"]].reset_index(drop=True), cross(alone))
    assert cells[cells["probe"]]["trials"].sum() == 1
    made = write(mixed, tmp_path, MLFLOW, evaluators=FAST)
    part = text_of(made).partition("## By level")[2].partition("\n## ")[0]
    assert part.count("Trials of the probe.") == part.count("Trials of the sampler.") == 4, "2 settings, grid, figure"
    assert "compare levels by the trials of the probe" in part
    assert (made.folder / "cross_probe.png").is_file()
    assert "Trials of the" not in text_of(report), "without a probe there is nothing to tell apart"


def test_another_number_of_settings_is_no_grid(several: StudyTable) -> None:
    one = {name: spread for name, spread in several.distributions.items() if name == "param/mode"}
    assert cross(replace(several, distributions=one)).empty


def test_figures_show_front_and_combinations(several: StudyTable) -> None:
    found = summarize(several, 5, 0)
    drawn = pareto_figure.draw(several, found.front)
    assert [axes.get_xlabel() for axes in drawn.axes] == [
        "trainable parameters",
        "training seconds (s, on this machine)",
    ]
    assert {text.get_text() for text in drawn.axes[0].texts} == {"0", "1"}
    assert not drawn.axes[0].lines, "a staircase would lie: the front has a third side"
    drawn = cross_figure.draw(several, found.cross)
    assert sorted(text.get_text() for text in drawn.axes[0].texts) == ["0.400", "0.500", "0.700"]
    assert [axes.get_title(loc="left") for axes in drawn.axes][1].startswith("test Dice")


def test_two_objectives_make_a_staircase(several: StudyTable) -> None:
    two = replace(several, objectives={name: several.objectives[name] for name in OBJECTIVES[:2]})  # type: ignore[index]
    assert len(pareto_figure.draw(two, summarize(two, 5, 0).front).axes[0].lines) == 1


def test_a_search_of_one_objective_has_no_front(
    fabricate: Callable[..., Any], add_trial: Callable[..., str], tmp_path: Path
) -> None:
    record = fabricate(lambda study, runs: add_trial(study, runs, np.random.default_rng(0), "completed"))
    made = write(read(record.url, record.name, record.runs), tmp_path, MLFLOW, evaluators=FAST)
    assert made.findings.front.empty
    assert "Pareto" not in text_of(made)
    assert not (made.folder / "front.csv").exists()
    assert "By level" not in text_of(made)
