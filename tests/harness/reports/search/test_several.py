"""One summary over the studies of a protocol."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from rich.console import Console

from harness.record.table import read
from harness.reports.rendering.console import markdown as terminal
from harness.reports.search.across_models import COLUMNS, markdown, summary, write
from harness.reports.search.findings import summarize
from harness.reports.search.gain import gains

FULL = {"study": "s/held_out=drive", "trial": 3, "validation": 0.7, "dataset": "drive", "role": "target"}
FULL |= {"metric": "dice", "mean": 0.6, "low": 0.5, "high": 0.7, "n": 20, "clusters": 20, "oracle": False}
FULL |= {"settings": '{"lr": "0.003", "rank": "8"}'}


def frame(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS))


def test_every_study_has_a_line_whatever_came_of_it(tmp_path: Path) -> None:
    unscored = {"study": "s/held_out=hrf", "trial": 1, "validation": 0.5, "oracle": False}
    told = frame(FULL, {"study": "s/held_out=stare"}, unscored)
    text, data = write(told, markdown(told), tmp_path / "s")
    lines = [line for line in text.read_text().splitlines() if line.startswith("| held_out")]
    assert ["0.600 [0.500, 0.700]" in lines[0], "none completed" in lines[1], "not scored" in lines[2]] == [True] * 3
    assert "0.600 [0.500, 0.700] | 20 images, 20 patients |" in lines[0]
    assert "| held_out=drive | 0.003 | 8 |" in lines, "what the model chose"
    assert list(pd.read_csv(data)["study"]) == ["s/held_out=drive", "s/held_out=stare", "s/held_out=hrf"]


def test_prompts_from_the_truth_are_told() -> None:
    for oracle in (False, True):
        told = " ".join(markdown(frame({**FULL, "oracle": oracle}, {"study": "none"})))
        assert ("taken from the ground truth" in told) is oracle
        assert ("| 3 † |" in told) is oracle
        assert ("†" in told) is oracle


def test_images_without_a_score_are_told() -> None:
    for undefined in (0, 2):
        told = " ".join(markdown(frame({**FULL, "undefined": undefined})))
        assert ("0.600 [0.500, 0.700], 2 of 22 images undefined" in told) == bool(undefined)
        assert ("undefined" in told) == bool(undefined)


def test_validation_has_its_images_and_the_gain_its_interval() -> None:
    gained = {"gain": 0.02, "gain_low": 0.01, "gain_high": 0.03, "gain_n": 20, "gain_clusters": 10, "gain_undefined": 0}
    told = markdown(frame({**FULL, **gained, "validation_n": 8, "validation_clusters": 4}, {"study": "s/held_out=hrf"}))
    assert any("| 3 | 0.700 (8 images, 4 patients) | drive |" in line for line in told)
    assert "| held_out=drive | drive | +0.020 [+0.010, +0.030] | 20 images, 10 patients |" in told
    assert not any("What tuning gained" in line for line in markdown(frame(FULL))), "no defaults were trained"


def test_every_study_has_its_gain_on_the_sets_that_judge_it(
    fabricate: Callable[..., Any], add_trial: Callable[..., str]
) -> None:
    def fill(study: optuna.Study, runs: Path) -> None:
        rng = np.random.default_rng(0)
        add_trial(study, runs, rng, "completed")
        add_trial(study, runs, rng, "completed", attributes={"reference": "defaults"})

    record = fabricate(fill)
    told = summary(record.url, [record.name], record.runs).set_index("dataset")
    expected = gains(summarize(read(record.url, record.name, record.runs), 1, 7)).set_index("dataset")
    for name in ("chase_db1", "hrf"):
        assert told.loc[name, "gain"] == expected.loc[name, "mean"]
        assert told.loc[name, "gain_clusters"] == expected.loc[name, "clusters"]
    assert set(told["validation_n"]) == {8}


def test_models_of_long_names_stay_apart_on_a_narrow_terminal() -> None:
    console = Console(width=60, file=io.StringIO(), record=True)
    names = [f"s/held_out=university_hospital_{side}" for side in ("left", "right")]
    console.print(terminal("\n".join(markdown(frame(*({**FULL, "study": name} for name in names))))))
    shown = console.export_text()
    assert "…" not in shown
    first = "".join(line[:10].strip() for line in shown.splitlines())
    assert "held_out=university_hospital_left" in first
    assert "held_out=university_hospital_right" in first


def test_no_study_of_a_protocol_may_have_completed() -> None:
    assert any("none completed" in line for line in markdown(frame({"study": "s/held_out=drive"})))
