"""The report of an ablation whose arms were tuned: what each search found, beside the same arms with fixed settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import compress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from optuna.trial import TrialState

from harness.record.ablation_scores import recorded_ablation
from harness.record.arm_studies import within_budget
from harness.record.table import StudyTable, read
from harness.record.trials import RecordedTrial, best
from harness.reports.ablation.arm_searches import ArmSearches, TunedSetting, arm_searches
from harness.reports.ablation.fixed_vs_tuned import FixedVsTuned, compare_fixed_and_tuned, fixed_command
from harness.reports.ablation.judgement import judge
from harness.reports.ablation.report import AblationReport, write
from harness.reports.build import SILENT
from harness.simulation.examples import TARGETS, loss_components, rank, tuned_loss_components
from harness.simulation.study import SearchTrial, SimulatedStudy
from harness.simulation.study import write as record
from harness.stats.crossed_variance import weights
from harness.stats.multiplicity import adjust
from harness.stats.refusal import Refused
from harness.tracking.mlflow_tracking import MlflowTracking

BUDGET = 12
Recorded = Callable[[SimulatedStudy], tuple[StudyTable, Path]]

HINT = MlflowTracking("sqlite:///mlflow.db").hint("study")


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'optuna.db'}"


@pytest.fixture(scope="module")
def after() -> SimulatedStudy:
    """An ablation whose arms were tuned."""
    return tuned_loss_components(BUDGET)


@pytest.fixture(scope="module")
def both(after: SimulatedStudy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a record with the ablation fixed and tuned."""
    folder = tmp_path_factory.mktemp("both")
    record(loss_components(), url(folder), folder)
    record(after, url(folder), folder)
    return folder


@pytest.fixture(scope="module")
def made(both: Path) -> AblationReport:
    """The report of the tuned one."""
    return write(
        read(url(both), "loss_components/tuned", both),
        both,
        HINT,
        0,
        SILENT,
    )


def compare(table: StudyTable, folder: Path) -> FixedVsTuned | Refused | None:
    return compare_fixed_and_tuned(judge(table, 0), 0, folder)


def test_the_best_is_chosen_by_validation_whatever_the_targets_say() -> None:
    trials = [
        RecordedTrial(number, TrialState.COMPLETE, values=(validation,), outcome=kind, scores={"cedar/dice": target})
        for number, (validation, target, kind) in enumerate(
            [(0.6, 0.9, "completed"), (0.7, 0.1, "completed"), (0.0, 1.0, "diverged")]
        )
    ]
    assert best(trials) is trials[1]
    assert best(trials[2:]) is None
    tie = [trials[1], replace(trials[1], number=5)]
    assert best(tie) is trials[1]


def test_every_arm_has_the_same_budget_however_far_its_search_went() -> None:
    states = [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, TrialState.RUNNING, TrialState.COMPLETE]
    trials = [RecordedTrial(number, state) for number, state in enumerate(states)]
    assert [trial.number for trial in within_budget(trials, 2)] == [0, 2]
    assert [trial.number for trial in within_budget(trials[::-1], 9)] == [0, 2, 4]


@pytest.mark.parametrize(("value", "edge"), [(1.2e-4, "lower"), (1e-3, None), (9e-3, "upper"), (1e-4, "lower")])
def test_the_edge_is_the_outer_tenth_on_the_scale_of_the_range(value: float, edge: str | None) -> None:
    assert TunedSetting("lr", value, 1e-4, 1e-2).edge == edge


def test_settings_of_the_report_are_those_the_replicates_ran_with(made: AblationReport, after: SimulatedStudy) -> None:
    told = pd.read_csv(made.folder / "tuned_settings.csv").set_index("arm")
    assert set(told.index) == set(after.searches) == set(after.cells.arms) - {"empty"}
    for arm, chosen in after.ablation["chosen"].items():
        if chosen:
            assert told.loc[arm, "lr"] == pytest.approx(chosen["optimizer.lr"], rel=1e-12)
            assert told.loc[arm, "validation"] == max(one.score for one in after.searches[arm] if one.score > 0)
            assert told.loc[arm, "trials"] == BUDGET
            failed = sum(math.isnan(one.score) for one in after.searches[arm])
            assert told.loc[arm, "completed"] == BUDGET - failed
    assert "The arm empty trains nothing and was not tuned" in (made.folder / "report.md").read_text()


def test_a_search_that_grew_afterwards_tells_of_the_trials_that_chose(after: SimulatedStudy, tmp_path: Path) -> None:
    later = {arm: [*tried, SearchTrial(1e-3, 1e-3, 0.99)] for arm, tried in after.searches.items()}
    record(replace(after, searches=later), url(tmp_path), tmp_path)
    table = read(url(tmp_path), after.name, tmp_path)
    found = arm_searches(table, recorded_ablation(table), np.random.default_rng(0))
    assert isinstance(found, ArmSearches)
    assert all(len(one.scores) == BUDGET and one.score < 0.9 for one in found.searches)


def test_searches_that_are_gone_are_refused(after: SimulatedStudy, recorded: Recorded) -> None:
    table, _ = recorded(replace(after, searches={}))
    assert isinstance(arm_searches(table, recorded_ablation(table), np.random.default_rng(0)), Refused)


def test_curves_end_at_the_budget_inside_their_bands(made: AblationReport) -> None:
    curves = pd.read_csv(made.folder / "tuning.csv")
    assert (curves.groupby("arm")["trials"].max() == BUDGET).all()
    assert ((curves["low"] <= curves["median"]) & (curves["median"] <= curves["high"])).all()
    assert ((curves["mean_low"] <= curves["mean"]) & (curves["mean"] <= curves["mean_high"])).all()
    assert (made.folder / "tuning.svg").is_file()
    assert f"A band rests on {BUDGET} trials of its arm" in (made.folder / "report.md").read_text()


def test_arms_stand_side_by_side_with_their_own_scores(made: AblationReport, after: SimulatedStudy) -> None:
    told = pd.read_csv(made.folder / "fixed_and_tuned.csv").set_index("arm")
    for how, cells in (("fixed", loss_components().cells), ("tuned", after.cells)):
        means = {
            arm: np.mean(
                [
                    weights(tuple(compress(cells.replicates, cells.finished[a])))
                    @ one.scores[a, cells.finished[a]].mean(axis=1)
                    for one in cells.targets
                    if one.name in TARGETS
                ]
            )
            for a, arm in enumerate(cells.arms)
            if arm != "empty"
        }
        assert told[f"{how}_mean"].to_dict() == pytest.approx(means, abs=1e-12)
    whole = told[told["fixed_replicates"] == 7]
    assert (whole["tuned_mean"] - whole["fixed_mean"]).tolist() == pytest.approx(whole["gain_estimate"].tolist())


def test_ranks_both_ways_are_those_of_either_study_and_gains_are_one_family(made: AblationReport) -> None:
    told = pd.read_csv(made.folder / "fixed_and_tuned.csv").set_index("arm")
    own = made.findings.ranks
    assert not isinstance(own, Refused)
    for one in own:
        assert tuple(told.loc[one.arm, [f"tuned_rank_{name}" for name in ("place", "best", "worst")]]) == (
            one.place, one.best, one.worst,
        )  # fmt: skip
    assert told["gain_holm_p"].tolist() == pytest.approx(adjust(told["gain_p"].to_numpy()).tolist())


def test_a_rank_has_moved_where_the_open_ranks_have_none_in_common(made: AblationReport) -> None:
    assert isinstance(made.findings.fixed_vs_tuned, FixedVsTuned)
    one = made.findings.fixed_vs_tuned.arms[0]
    assert one.fixed_rank is not None

    def moved(fixed: tuple[int, int], after: tuple[int, int]) -> bool:
        assert one.fixed_rank is not None
        ranks = [replace(one.fixed_rank, best=best, worst=worst) for best, worst in (fixed, after)]
        return replace(one, fixed_rank=ranks[0], tuned_rank=ranks[1]).moved

    assert moved((1, 2), (3, 7))
    assert moved((5, 7), (1, 4))
    assert not moved((1, 3), (3, 7))
    assert not replace(one, fixed_rank=None).moved


def test_the_fixed_one_is_set_beside_the_tuned_one_too(both: Path) -> None:
    found = compare(read(url(both), "loss_components", both), both)
    assert isinstance(found, FixedVsTuned)
    assert (found.fixed, found.tuned, found.budget) == ("loss_components", "loss_components/tuned", BUDGET)
    own = judge(read(url(both), "loss_components", both), 0).judged
    assert [before for before, _ in found.judged] == list(own)


def test_without_a_fixed_one_the_command_that_makes_it_is_told(after: SimulatedStudy, recorded: Recorded) -> None:
    table, folder = recorded(after)
    command = "python -m harness.ablate loss_components --tuned 12 --epochs 3"
    told = compare(replace(table, provenance={"command": command}), folder)
    assert isinstance(told, Refused)
    assert "make it with `python -m harness.ablate loss_components --epochs 3`" in str(told)


def test_a_fixed_one_alone_says_nothing_of_tuning(table: StudyTable, tmp_path: Path) -> None:
    assert compare(table, tmp_path) is None


@pytest.mark.parametrize(
    "change",
    [{"epochs": 9}, {"name": "other"}, {"ablation": {"smallest_of_interest": 0.01}}],
    ids=["epochs", "search", "smallest"],
)
def test_a_study_that_asks_something_else_is_not_set_beside(
    after: SimulatedStudy, tmp_path: Path, change: dict
) -> None:  # type: ignore[type-arg]
    fixed = loss_components()
    if "ablation" in change:
        change = {"ablation": {**fixed.ablation, **change["ablation"]}}
    record(replace(fixed, **change), url(tmp_path), tmp_path)
    record(after, url(tmp_path), tmp_path)
    assert isinstance(compare(read(url(tmp_path), after.name, tmp_path), tmp_path), Refused)


@pytest.mark.parametrize(
    ("command", "fixed"),
    [
        ("python -m harness.ablate x --tuned 4 --targets a", "python -m harness.ablate x --targets a"),
        ("python -m harness.ablate --tun=4 x", "python -m harness.ablate x"),
        ("python -m harness.ablate x --study 'my own' --tuned 4", "python -m harness.ablate x --study 'my own'"),
        ("", ""),
    ],
)
def test_the_fixed_command_is_the_tuned_one_without_tuning(command: str, fixed: str) -> None:
    assert fixed_command(command) == fixed


def test_other_designs_without_tuning_have_no_such_section(recorded: Recorded) -> None:
    table, folder = recorded(rank())
    report = write(table, folder, HINT, 0, SILENT)
    assert report.findings.arm_searches is None
    assert "Tuning of each arm" not in (report.folder / "report.md").read_text()
