"""The record as tables: every outcome as what it is, every file that could not be read by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from harness.record.table import StudyTable, UnknownStudy, completed_trials, label, read, studies


@pytest.fixture(scope="module")
def table(full: Any) -> StudyTable:
    return read(full.url, full.name, full.runs)


def test_every_trial_has_its_outcome(table: StudyTable) -> None:
    counts = table.trials["outcome"].value_counts().to_dict()
    assert counts == {"completed": 20, "stopped": 9, "diverged": 3, "out_of_memory": 2, "crashed": 2}
    assert table.trials["number"].tolist() == list(range(36))


def test_only_a_completed_trial_has_a_value(table: StudyTable) -> None:
    completed = table.trials["outcome"] == "completed"
    assert table.trials.loc[completed, "value"].notna().all()
    assert table.trials.loc[~completed, "value"].isna().all()
    assert table.trials.loc[table.trials["outcome"] == "stopped", "last_score"].notna().all()


def test_weights_stand_in_for_the_simplex(table: StudyTable) -> None:
    weights = table.trials.filter(like="weight/")
    assert list(weights) == ["weight/bce", "weight/focal_tversky", "weight/soft_dice"]
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    assert (weights["weight/focal_tversky"] == 0.0).any()  # absent in some configs, and so zero rather than missing
    assert not any("simplex" in column for column in [*table.trials.columns, *table.distributions])
    assert table.distributions["weight/bce"] == FloatDistribution(0.0, 1.0)
    assert table.distributions["param/lr"] == FloatDistribution(1e-5, 1e-2, log=True)


def test_a_given_loss_is_not_a_searched_one(fabricate: Callable[..., Any]) -> None:
    config = {"loss": {"terms": [{"loss": {"kind": "bce"}, "weight": 0.5}, {"loss": {"kind": "dice"}, "weight": 0.5}]}}
    spreads = {"lr": FloatDistribution(1e-5, 1e-2, log=True)}

    def fill(study: optuna.Study, runs: Path) -> None:
        attributes = {"config": json.dumps(config)}
        study.add_trial(create_trial(value=0.5, params={"lr": 1e-3}, distributions=spreads, user_attrs=attributes))

    record = fabricate(fill)
    table = read(record.url, record.name, record.runs)
    assert list(table.distributions) == ["param/lr"]
    assert table.trials[["weight/bce", "weight/dice"]].to_numpy().tolist() == [[0.5, 0.5]]


def test_unreadable_files_are_named_with_their_reason(table: StudyTable) -> None:
    assert table.left_out["number"].tolist() == [18, 19]
    assert table.left_out["why"].iloc[0] == "the file is missing"
    assert "not a parquet file" in table.left_out["why"].iloc[1]
    assert set(table.images["number"]) == set(range(17))


def test_a_reused_trial_has_no_images_and_is_measured_once(table: StudyTable) -> None:
    reused = table.trials[table.trials["reused_from"].notna()]
    assert reused["number"].tolist() == [17]
    assert reused["reused_from"].tolist() == [16]
    assert 17 not in set(table.images["number"])
    assert completed_trials(table.trials)["number"].tolist() == [*range(17), 18, 19]


def test_curves_have_a_row_per_epoch(table: StudyTable) -> None:
    lengths = table.curves.groupby("number").size()
    assert (lengths[list(range(20))] == 12).all()
    recorded = table.trials.set_index("number")["epoch"]
    stopped = table.trials.loc[table.trials["outcome"] == "stopped", "number"]
    assert (lengths[stopped] == recorded[stopped]).all()


def test_roles_and_question_come_from_the_record(table: StudyTable) -> None:
    assert table.roles == {"drive": "source", "stare": "source", "chase_db1": "target", "hrf": "target"}
    assert table.question["search"] == "loss_weights"
    assert table.provenance["git"] == "abc1234"
    assert table.direction == "maximize"


def test_an_unknown_study_names_the_nearest(full: Any) -> None:
    with pytest.raises(
        UnknownStudy, match=r"No study 'loss_weight' .*Did you mean 'loss_weights'.*holds: loss_weights"
    ):
        read(full.url, "loss_weight", full.runs)


def test_a_missing_record_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(UnknownStudy, match="There is no record"):
        studies(f"sqlite:///{tmp_path}/optuna.db")
    assert list(tmp_path.iterdir()) == []


def test_studies_are_listed_with_their_search(full: Any) -> None:
    assert studies(full.url) == {"loss_weights": "loss_weights"}


def test_the_state_must_bear_out_the_outcome(fabricate: Callable[..., Any], add_trial: Callable[..., str]) -> None:
    def fill(study: optuna.Study, runs: Path) -> None:
        rng = np.random.default_rng(0)
        add_trial(study, runs, rng, "stopped", attributes={"outcome": {"kind": "completed", "epoch": 3, "why": ""}})
        study.add_trial(create_trial(value=0.9))
        study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs={"outcome": {"kind": "completed"}}))
        study.enqueue_trial({})
        study.add_trial(create_trial(state=TrialState.FAIL))  # proposed by a run that was killed before it started it

    record = fabricate(fill)
    trials = read(record.url, record.name, record.runs).trials
    assert trials["outcome"].tolist() == ["unreadable", "unreadable", "running", "waiting"]
    assert "PRUNED" in trials["why"].iloc[0]
    assert trials["value"].isna().all()
    assert completed_trials(trials).empty


def test_an_empty_study_has_tables_without_rows(fabricate: Callable[..., Any]) -> None:
    record = fabricate(lambda study, runs: None)
    table = read(record.url, record.name, record.runs)
    for frame in (table.trials, table.curves, table.images, table.left_out):
        assert isinstance(frame, pd.DataFrame)
        assert frame.empty
    assert completed_trials(table.trials).empty


def test_moving_ranges_become_the_widest_and_none_a_choice(fabricate: Callable[..., Any]) -> None:
    def fill(study: optuna.Study, runs: Path) -> None:
        for high, choice in ((8, None), (32, "cosine")):
            spreads = {"depth": IntDistribution(1, high), "schedule": CategoricalDistribution([None, "cosine"])}
            study.add_trial(create_trial(value=0.5, params={"depth": 2, "schedule": choice}, distributions=spreads))

    record = fabricate(fill)
    table = read(record.url, record.name, record.runs)
    assert table.distributions["param/depth"] == IntDistribution(1, 32)
    assert table.distributions["param/schedule"] == CategoricalDistribution(["None", "cosine"])
    assert table.trials["param/schedule"].tolist() == ["None", "cosine"]


def test_labels_are_for_readers() -> None:
    assert [label(name) for name in ("param/lr", "weight/bce")] == ["lr", "bce weight"]
