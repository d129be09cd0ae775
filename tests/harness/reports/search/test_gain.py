"""What tuning gained: paired with the defaults and the frozen model, and told when it is nothing."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from rich.console import Console

from harness.importance import PedAnova
from harness.record.table import StudyTable, read
from harness.reports.build import write
from harness.reports.search.findings import summarize
from harness.reports.search.gain import gains, what_tuning_gained
from harness.reports.search.overview import plainly
from harness.reports.search.report import SearchReport, show_importance, show_result
from harness.tracking.mlflow_tracking import MlflowTracking
from sam2lora.intervals import mean_interval

HINT = MlflowTracking("sqlite:///mlflow.db").hint("study")

GOOD, POOR = (8e-3, 16, np.array([0.05, 0.9, 0.05])), (2e-5, 8, np.array([0.9, 0.05, 0.05]))

Fabricate = Callable[[Any, Any], StudyTable]


@pytest.fixture
def study(fabricate: Callable[..., Any], add_trial: Callable[..., str]) -> Fabricate:
    """A study of three trials, the best of which has settings ``own``, with references of settings ``defaults``."""

    def made(own: Any, defaults: Any) -> StudyTable:
        def fill(draft: optuna.Study, runs: Path) -> None:
            rng = np.random.default_rng(0)
            for settings in (POOR, own, POOR):
                add_trial(draft, runs, rng, "completed", settings=settings)
            for name, settings in (("defaults", defaults), ("frozen", POOR)):
                add_trial(draft, runs, rng, "completed", settings=settings, attributes={"reference": name})

        record = fabricate(fill)
        return read(record.url, record.name, record.runs)

    return made


def test_references_are_none_of_the_searchs_trials(study: Fabricate) -> None:
    table = study(GOOD, POOR)
    assert table.trials["number"].tolist() == [0, 1, 2]
    assert table.references["reference"].tolist() == ["defaults", "frozen"]
    found = summarize(table, 5, 0)
    assert found.outcomes == {"completed": 3}
    assert found.best["number"].tolist() == [1, 0, 2]


def test_the_gain_is_paired_by_image_with_an_interval_over_patients(study: Fabricate) -> None:
    table = study(GOOD, POOR)
    told = gains(summarize(table, 5, 0)).set_index(["reference", "dataset"])
    images = table.images
    mine, other = (images[(images["number"] == n) & (images["dataset"] == "chase_db1")] for n in (1, 3))
    expected = mean_interval(mine["dice"].to_numpy() - other["dice"].to_numpy(), mine["patient"])
    row = told.loc[("defaults", "chase_db1")]
    assert (row["mean"], row["low"], row["high"]) == (expected.mean, expected.low, expected.high)
    assert (row["n"], row["clusters"]) == (14, 7)
    validation = told.loc[("frozen", "validation")]
    assert validation["mean"] == pytest.approx(validation["best"] - validation["other"])
    assert np.isnan(validation["low"]), "it chose"


def test_a_gain_and_its_absence_are_told_everywhere(study: Fabricate, tmp_path: Path) -> None:
    gained = write(study(GOOD, POOR), tmp_path / "gained", HINT, evaluators=(PedAnova(),))
    assert isinstance(gained, SearchReport)
    part = (gained.folder / "report.md").read_text().partition("## What tuning gained")[2].partition("\n## ")[0]
    sets = [line.split(" | ")[1] for line in part.splitlines() if line.startswith("| the declared defaults")]
    assert sets == ["validation", "chase_db1 (target)", "hrf (target)", "drive (in domain)", "stare (in domain)"]
    assert "(no interval) | 8 images, 6 patients |" in part, "validation chose"
    assert "| optimizer.lr | 2e-05 | 0.008 |" in part, "what the defaults are"
    assert "| loss.terms.0.weight (bce) | 0.9 | 0.05 |" in part
    assert (gained.folder / "references.csv").exists()
    assert "without the references" in (gained.folder / "report.md").read_text()
    assert "Tuning gained nothing" not in part
    assert "One seed each" in part
    assert gained.summary["gain/defaults/test/hrf/dice"] > 0
    assert "reference/frozen/validation" in gained.summary
    assert "gain/defaults/validation/low" not in gained.summary, "a tracker would draw it as a point"
    console = Console(record=True, width=200, file=io.StringIO())
    show_result(gained.findings, console)
    show_importance(gained.findings, console)
    shown = " ".join(console.export_text().split())
    assert "the declared defaults 0." in shown
    assert "place trial 7 patients 14 patients" in shown, "test scores on the terminal have their n"
    assert gained.summary["gain/defaults/test/chase_db1/dice/patients"] == 7
    assert gained.summary["best/validation/images"] == 8
    assert "in validation (8 images, 6 patients)" in shown
    assert "by validation on the sources alone (8 images, 6 patients)" in shown

    nothing = summarize(study(GOOD, GOOD), 5, 0)
    assert "**Tuning gained nothing**: the defaults do as well in validation." in what_tuning_gained(nothing)
    assert what_tuning_gained(nothing) in plainly(nothing)


def test_defaults_that_validate_better_are_told_with_what_they_test(study: Fabricate) -> None:
    told = what_tuning_gained(summarize(study(POOR, GOOD), 5, 0))
    assert "**Tuning gained nothing**: validation would choose the defaults." in told
    assert "on chase_db1 (14 images, 7 patients); " in told
    assert "It is **worse than the defaults** on chase_db1 and hrf." in told
    assert told.endswith("One seed each: with other seeds, either may come out ahead.")


def test_what_cannot_be_compared_is_not(study: Fabricate) -> None:
    table = study(GOOD, POOR)
    table.references["oracle_prompt"] = True
    assert gains(summarize(table, 5, 0)).empty
    table.references["outcome"] = "crashed"
    assert what_tuning_gained(summarize(table, 5, 0)) == ""


def test_one_score_has_one_interval_wherever_it_stands(study: Fabricate) -> None:
    found = summarize(study(GOOD, POOR), 5, 0)
    again = summarize(study(GOOD, POOR), 1, 99)
    first = found.scores[found.scores["place"] == 1].reset_index(drop=True)
    pd.testing.assert_frame_equal(first, again.scores.reset_index(drop=True))
