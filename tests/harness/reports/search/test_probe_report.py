"""What a report makes of a probe: importance of its own, beside that of the sampler's trace and never mixed with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

from harness.importance import Fanova, PedAnova
from harness.record.table import read
from harness.reports.build import write
from harness.reports.document import Refusal, Table, Text
from harness.reports.search.findings import summarize, with_importance
from harness.reports.search.importance import importance
from harness.reports.search.overview import plainly
from harness.reports.search.report import SearchReport
from harness.tracking.mlflow_tracking import MlflowTracking

HINT = MlflowTracking("sqlite:///mlflow.db").hint("study")

FAST = (PedAnova(quantile=0.5, bootstraps=4, shuffles=19),)


def text_of(made: SearchReport) -> str:
    return (made.folder / "report.md").read_text()


@pytest.fixture(scope="module")
def report(fabricate: Callable[..., Any], add_trial: Callable[..., str], tmp_path_factory: Any) -> SearchReport:
    """12 trials of TPE, 3 of them stopped, and a probe of 14, of which the last repeats a trial of TPE's."""

    def fill(study: optuna.Study, runs: Path) -> None:
        rng = np.random.default_rng(0)
        keys = [add_trial(study, runs, rng, "completed" if number < 12 else "stopped") for number in range(15)]
        for point in range(14):
            again = {"key": keys[0], "reused_from": 0, "cost": {}} if point == 13 else {}
            add_trial(study, runs, rng, "completed", attributes={"probe": True, "point": point, **again})

    record = fabricate(fill)
    made = write(
        read(record.url, record.name, record.runs),
        tmp_path_factory.mktemp("out"),
        HINT,
        evaluators=FAST,
    )
    assert isinstance(made, SearchReport)
    return made


def test_probe_and_trace_are_measured_apart(report: SearchReport) -> None:
    found = report.findings
    assert [set(table["n"]) for _, table in found.probed] == [{14}], (
        "what it repeats is a measurement of the probe, too"
    )
    assert [set(table["n"]) for _, table in found.importance] == [{12}]
    trials = found.table.trials
    alone = found.table.__class__(**{**vars(found.table), "trials": trials[~trials["probe"]]})
    without = with_importance(summarize(alone, 5, 7), 7, FAST)
    pd.testing.assert_frame_equal(without.importance[0][1], found.importance[0][1])
    assert without.probed == ()


def test_the_report_says_which_is_which_and_what_neither_can_say(report: SearchReport) -> None:
    part = text_of(report).partition("## Which settings mattered")[2].partition("\n## ")[0]
    probe, _, trace = part.partition("**A trace is not a probe.**")
    assert "**From the probe.**" in probe
    assert "14 completed trials, 4 bootstraps" in probe
    assert "14 completed trials for 5 settings: too few" in probe
    assert "stopped 3 trials early" not in probe
    assert "12 completed trials, 4 bootstraps" in trace
    assert "stopped 3 trials early" in trace
    assert "Believe the probe" in trace
    assert "importance_probe.png" in probe
    assert "importance.png" in trace


def test_files_and_numbers_keep_them_apart(report: SearchReport) -> None:
    frame = pd.read_csv(report.folder / "importance.csv")
    assert frame.groupby("probe")["n"].unique().map(list).to_dict() == {False: [12], True: [14]}
    trials = pd.read_csv(report.folder / "trials.csv")
    assert trials["probe"].tolist() == [False] * 15 + [True] * 14
    assert (report.folder / "importance_probe.png").stat().st_size > 1000
    both = {name.rpartition("/ped_anova")[0] for name in report.summary if "ped_anova" in name}
    assert both == {"importance", "importance/probe"}


def test_without_a_probe_the_report_tells_how_to_get_one(
    fabricate: Callable[..., Any], add_trial: Callable[..., str], tmp_path: Path
) -> None:
    record = fabricate(lambda study, runs: add_trial(study, runs, np.random.default_rng(0), "completed"))
    made = write(
        read(record.url, record.name, record.runs),
        tmp_path,
        HINT,
        evaluators=FAST,
    )
    assert isinstance(made, SearchReport)
    assert "--probe" in text_of(made)
    assert "From the probe" not in text_of(made)
    assert not (made.folder / "importance_probe.png").exists()


def test_what_no_table_shows_is_not_said_in_plain_words_either(
    fabricate: Callable[..., Any], add_trial: Callable[..., str]
) -> None:
    """Six trials of the sampler and six of a probe: twelve together, but neither has the ten that importance takes."""

    def fill(study: optuna.Study, runs: Path) -> None:
        rng = np.random.default_rng(0)
        for point in range(6):
            add_trial(study, runs, rng, "completed")
            add_trial(study, runs, rng, "completed", attributes={"probe": True, "point": point})

    record = fabricate(fill)
    found = summarize(read(record.url, record.name, record.runs), 5, 0)
    found = with_importance(found, 0, (Fanova(trees=4, resample_trees=2, bootstraps=2, shuffles=2),))
    needs = "importance of the probe needs 10 completed trials, there are 6."
    assert plainly(found)[-1] == f"Nothing can be said about what mattered: {needs}"
    blocks = importance(found).blocks
    assert not [block for block in blocks if isinstance(block, Table)], "no table of empty cells"
    said = [block.text for block in blocks if isinstance(block, Text)]
    assert not [text for text in said if text.startswith(("**Importance**", "**Caution"))], (
        "of figures that are not there"
    )
    refused = [block.text for block in blocks if isinstance(block, Refusal)]
    assert any(text.startswith("lr") and "there are 6" in text for text in refused), "the regression's reasons"
