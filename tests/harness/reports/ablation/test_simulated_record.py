"""A simulated record reads back as the study that it was made of, and Optuna finds nothing odd in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from harness.record import bulk_insert
from harness.record.ablation_scores import ablation_scores, recorded_ablation
from harness.record.storage import open_storage
from harness.record.table import StudyTable
from harness.simulation.study import SimulatedStudy


def test_scores_come_back_as_they_were(study: SimulatedStudy, table: StudyTable) -> None:
    found = ablation_scores(table, recorded_ablation(table))
    by_name = {target.name: target for target in study.cells.targets}
    assert [target.name for target in found.cells.targets] == ["cedar", "willow", "rowan"]
    assert [target.name for target in found.sources.targets] == ["alder", "birch"]
    for target in (*found.cells.targets, *found.sources.targets):
        meant = np.where(study.cells.finished[..., None], by_name[target.name].scores, np.nan)
        np.testing.assert_array_equal(target.scores, meant)
        np.testing.assert_array_equal(target.patients, by_name[target.name].patients)
    np.testing.assert_array_equal(found.cells.finished, study.cells.finished)


def test_endings_are_told_as_a_real_study_tells_them(table: StudyTable) -> None:
    counts = table.trials["outcome"].value_counts().to_dict()
    assert counts == {"completed": 54, "diverged": 1, "crashed": 1}
    assert table.trials.loc[table.trials["outcome"] == "diverged", "value"].isna().all()


def test_bulk_writes_what_optuna_would(tmp_path: Path) -> None:
    spread = {"arm": CategoricalDistribution(["a", "b"]), "lr": FloatDistribution(1e-5, 1.0, log=True)}
    made = [
        create_trial(
            state=state,
            value=0.25 if state == TrialState.COMPLETE else None,
            params={"arm": arm, "lr": 0.001},
            distributions=spread,
            user_attrs={"key": arm, "curve": [{"epoch": 1, "score": 0.5}]},
        )
        for state, arm in ((TrialState.COMPLETE, "b"), (TrialState.FAIL, "a"), (TrialState.PRUNED, "a"))
    ]
    read = {}
    for how in ("slow", "fast"):
        storage = open_storage(f"sqlite:///{tmp_path / how}.db")
        study = optuna.create_study(storage=storage, study_name="s", direction="maximize")
        if how == "slow":
            study.add_trials(made)
        else:
            bulk_insert.add(storage, "s", made[:1])
            bulk_insert.add(storage, "s", made[1:])
        fresh = open_storage(f"sqlite:///{tmp_path / how}.db")
        read[how] = fresh.get_all_trials(fresh.get_study_id_from_name("s"))
    assert read["fast"] == read["slow"]


def test_bulk_refuses_what_it_does_not_write(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path / 'o.db'}")
    optuna.create_study(storage=storage, study_name="s")
    with pytest.raises(ValueError, match="without intermediate values"):
        bulk_insert.add(storage, "s", [create_trial(value=1.0, intermediate_values={1: 0.5})])
