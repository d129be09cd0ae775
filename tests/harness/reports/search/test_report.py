"""The report as a reader meets it: files, sentences, and what it refuses to say."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from rich.console import Console

import harness
from harness.experiments import declarations
from harness.experiments.lookup import resolve
from harness.importance import Fanova, PedAnova
from harness.record.table import StudyTable, UnknownStudy, completed_trials, label, read
from harness.report import main
from harness.reports import commands
from harness.reports.build import write
from harness.reports.rendering import markdown
from harness.reports.search.findings import OUTCOMES, Findings, scores, summarize
from harness.reports.search.format import interval, score, with_gaps
from harness.reports.search.overview import OUTCOME_WORDS, plainly
from harness.reports.search.page import document
from harness.reports.search.report import SearchReport, show_importance, show_result
from harness.tracking.mlflow_tracking import MlflowTracking
from sam2lora.intervals import mean_interval

MLFLOW = MlflowTracking("sqlite:///runs/mlflow.db").hint("study")
FAST = (Fanova(trees=8, resample_trees=4, bootstraps=8, shuffles=6), PedAnova(bootstraps=8, shuffles=6))
ROOT = Path(harness.__file__).parents[1]


def test_a_report_has_words_for_every_outcome() -> None:
    assert set(OUTCOME_WORDS) == set(OUTCOMES)


def told_of(found: Findings) -> str:
    """The Markdown text, without figures."""
    return markdown.write(document(found, MLFLOW, Path("none")), {})


def text_of(made: SearchReport) -> str:
    return (made.folder / "report.md").read_text()


@pytest.fixture(scope="module")
def table(full: Any) -> StudyTable:
    return read(full.url, full.name, full.runs)


@pytest.fixture(scope="module")
def report(table: StudyTable, tmp_path_factory: pytest.TempPathFactory) -> SearchReport:
    return write(table, tmp_path_factory.mktemp("out"), MLFLOW, evaluators=FAST)


def test_the_page_is_self_contained_and_every_table_is_there_in_four_forms(report: SearchReport) -> None:
    page = (report.folder / "report.html").read_text()
    assert not re.search(r"https?://|<link|<script|@import|url\(", page)
    tables = {path.stem for path in report.folder.glob("*.tex")}
    assert {"best", "tests_target", "loss_weights", "importance_fanova", "outcomes", "cost"} <= tables
    assert all((report.folder / f"{name}.csv").is_file() for name in tables)
    assert page.count("<table>") == len(tables)
    assert page.count("data:image/png;base64,") == len(list(report.folder.glob("*.png")))


def test_the_best_trials_pictures_are_cut_by_data_set(table: StudyTable, report: SearchReport, tmp_path: Path) -> None:
    """Unseen hospitals first, whatever the order of the sheet."""
    key = str(report.findings.best.iloc[0]["key"])
    rows = [
        {"dataset": name, "role": role, "image": "x", "place": "worst", "dice": 0.5, "top": top, "height": 10}
        for name, role, top in (("drive", "source", 4), ("hrf", "target", 18))
    ]
    text = PngInfo()
    text.add_text("rows", json.dumps(rows))
    sheet = tmp_path / table.name / "trials" / key / "predictions.png"
    sheet.parent.mkdir(parents=True)
    Image.new("RGB", (40, 32)).save(sheet, pnginfo=text)
    made = write(replace(table, out=tmp_path), tmp_path, MLFLOW, evaluators=FAST)
    section = text_of(made).partition("## Example predictions")[2].partition("\n## ")[0]
    assert re.findall(r"\((panels_\w+\.png)\)", section) == ["panels_hrf.png", "panels_drive.png"]
    assert "hrf, n = 14 images. worst x: Dice 0.500." in section
    assert Image.open(made.folder / "panels_hrf.png").size == (40, 10)
    assert "Not shown: there is no best trial yet, or it has no pictures" in text_of(report)


def test_everything_linked_is_there(report: SearchReport) -> None:
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text_of(report))
    assert sorted(links) == ["curves.png", "history.png", "importance.png", "simplex.png", "targets.png"]
    assert all((report.folder / link).stat().st_size > 1000 for link in links)
    assert all(path.is_file() for path in report.files)
    assert {path.name for path in report.files} == {path.name for path in report.folder.iterdir()}
    named = re.findall(r"`(\w+\.csv)`", text_of(report))
    assert named
    assert all((report.folder / name).is_file() for name in named)


def test_trials_csv_is_the_table(report: SearchReport, table: StudyTable) -> None:
    written = pd.read_csv(report.folder / "trials.csv", keep_default_na=False, na_values=[""])
    assert written.columns.tolist() == table.trials.columns.tolist()
    assert len(written) == len(table.trials)
    for column in table.trials.select_dtypes("number"):
        expected = table.trials[column].astype(float).to_numpy()
        np.testing.assert_allclose(written[column].astype(float).to_numpy(), expected, rtol=1e-12)
    assert written["outcome"].tolist() == table.trials["outcome"].tolist()


def test_equal_records_give_equal_files(report: SearchReport, table: StudyTable, tmp_path: Path) -> None:
    again = write(table, tmp_path / "again", MLFLOW, evaluators=FAST)
    for first, second in zip(report.files, again.files, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name


def test_the_best_are_chosen_by_validation_alone(table: StudyTable) -> None:
    rng = np.random.default_rng(0)
    scores = [column for column in table.trials if column.startswith("score/")]
    shuffled = table.trials.assign(**{column: rng.random(len(table.trials)) for column in scores})
    images = table.images.assign(dice=rng.random(len(table.images)))
    before, after = (summarize(t, 5, 0).best for t in (table, replace(table, trials=shuffled, images=images)))
    assert before["number"].tolist() == after["number"].tolist()
    values = completed_trials(table.trials)["value"].sort_values(ascending=False)
    assert before["value"].tolist() == values.head(5).tolist()


def test_a_smaller_objective_can_be_the_better(table: StudyTable) -> None:
    best = summarize(replace(table, direction="minimize"), 3, 0).best
    assert best["value"].tolist() == completed_trials(table.trials)["value"].sort_values().head(3).tolist()


def test_target_scores_come_with_an_interval_over_patients(report: SearchReport, table: StudyTable) -> None:
    rows = report.findings.scores
    row = rows[(rows["place"] == 1) & (rows["dataset"] == "chase_db1") & (rows["metric"] == "dice")].iloc[0]
    images = table.images[(table.images["number"] == 16) & (table.images["dataset"] == "chase_db1")]
    expected = mean_interval(images["dice"], images["patient"])
    assert row["mean"] == expected.mean
    assert (row["n"], row["clusters"]) == (14, 7)
    assert row["low"] == expected.low
    assert row["low"] < row["mean"] < row["high"]
    assert f"| {interval(row.to_dict())} |" in text_of(report)
    assert "chase_db1 (14 images, 7 patients)" in text_of(report)


def test_undefined_scores_are_counted_where_they_are_told(report: SearchReport) -> None:
    assert "3 of 14 images undefined" in text_of(report)
    assert "| hrf | dice | 3 | 238 |" in text_of(report)
    assert "The threshold of its masks was not recorded." in text_of(report)
    console = Console(record=True, width=200, file=io.StringIO())
    show_result(report.findings, console)
    show_importance(report.findings, console)
    assert console.export_text().count("3 of 14 images undefined") == 1


def test_a_metric_that_no_image_defines_is_counted_without_the_image_scores(report: SearchReport) -> None:
    """The record has no mean of it, only how many images it left out: it was shown as not tested."""
    found = report.findings
    ranked = found.best.assign(**{"undefined/drive/auc": 14.0, "n_images/drive": 14.0})
    known = scores(replace(found.table, images=found.table.images.head(0)), ranked)
    row = known[(known["dataset"] == "drive") & (known["metric"] == "auc")].iloc[0].to_dict()
    assert (row["n"], row["undefined"]) == (0, 14)
    assert with_gaps(row) == "undefined, 14 of 14 images undefined"


def test_a_set_with_nothing_to_find_is_told(report: SearchReport) -> None:
    found = report.findings
    hrf = found.table.images["dataset"] == "hrf"
    images = found.table.images.assign(sensitivity=np.where(hrf, np.nan, 0.5))
    empty = replace(found, table=replace(found.table, images=images))
    for said in (told_of(empty), "\n".join(plainly(empty))):
        assert "hrf: 14 of 14 images have nothing to find in the field of view" in said
    assert "have nothing to find" not in text_of(report)


@pytest.mark.parametrize("undefined", [0, 2])
def test_undefined_scores_are_counted_by_level_of_a_setting(report: SearchReport, undefined: int) -> None:
    row = {"probe": False, "parameter": "param/rank", "level": "4", "trials": 5, "oracle_trials": 0}
    row |= {"dataset": "hrf", "role": "target"}
    row |= {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 12, "clusters": 6, "undefined": undefined}
    over_trials = {**row, "dataset": "validation", "role": "val", "n": 5, "undefined": 0}
    found = replace(report.findings, levels=pd.DataFrame([over_trials, row]))
    text = told_of(found)
    said = ", 2 of 14 images undefined" * bool(undefined)
    assert f"| 4 | 5 | 0.500 [0.400, 0.600] | 0.500 [0.400, 0.600]{said} |" in text


def test_every_metric_of_the_best_trial_is_told_with_its_unit_direction_and_gaps(
    fabricate: Callable[..., Any], add_trial: Callable[..., str], tmp_path: Path
) -> None:
    """Distances and shares, one undefined on two images of a set, in one table; the threshold above it."""

    def fill(study: optuna.Study, runs: Path) -> None:
        key = add_trial(study, runs, np.random.default_rng(0), "completed", attributes={"threshold": 0.37})
        path = runs / study.study_name / "trials" / key / "images.parquet"
        frame = pd.read_parquet(path).assign(hd95=12.34, ece=0.0512, mcc=-0.25, threshold=0.37)
        frame.loc[frame.index[frame["dataset"] == "hrf"][:2], "hd95"] = np.nan
        frame.to_parquet(path)

    record = fabricate(fill)
    text = text_of(write(read(record.url, record.name, record.runs), tmp_path, MLFLOW, evaluators=FAST))
    section = text.partition("### Every test metric of the best trial")[2].partition("Settings of the best")[0]
    assert "A pixel counts as foreground where its probability is above 0.37." in section
    row = next(line for line in section.splitlines() if line.startswith("| HD95 [pixels], smaller is better |"))
    assert "| 12.3 [12.3, 12.3], 2 of 14 images undefined |" in row
    assert row.count("12.3 [12.3, 12.3]") == 4
    assert "| ECE, smaller is better | 0.051 [0.051, 0.051] |" in section
    assert "| MCC | -0.250 [-0.250, -0.250] |" in section
    assert "| Dice |" in section
    assert "threshold" not in [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("|")]


def test_a_lost_file_costs_the_interval_and_is_named(report: SearchReport) -> None:
    rows = report.findings.scores[report.findings.scores["number"] == 18]
    assert rows["low"].isna().all()
    assert rows["mean"].notna().all()
    assert "(no interval: image scores missing)" in text_of(report)
    assert re.search(r"\| 18 \| `.*images\.parquet` \| the file is missing \|", text_of(report))


def test_validation_images_are_no_evidence(table: StudyTable) -> None:
    val = table.images[table.images["dataset"] == "drive"].assign(role="val", dice=1.0)
    with_val = replace(table, images=pd.concat([table.images, val]))
    pd.testing.assert_frame_equal(summarize(with_val, 5, 0).scores, summarize(table, 5, 0).scores)


def test_outcomes_are_told_in_words(report: SearchReport) -> None:
    for line in ("completed | 19", "stopped | 9", "diverged | 3", "out of memory | 2", "crashed | 2", "reused | 1"):
        assert f"| {line} |" in text_of(report)
    assert "| diverged | 3 | loss is not finite |" in text_of(report)
    assert "Of 36 trials, 19 completed; the others: 9 stopped" in text_of(report)


def test_cost_counts_what_ran(report: SearchReport, table: StudyTable) -> None:
    cost = report.findings.cost
    assert cost.counted == 35
    assert cost.train == table.trials["cost/train_seconds"].sum()
    assert cost.wall == (table.trials["finished"].max() - table.trials["started"].min()).total_seconds()
    assert cost.peak_mib[0] >= 641
    assert "trained share of all parameters | 0." in text_of(report)


def test_the_report_says_where_to_look_and_how_to_go_on(report: SearchReport, table: StudyTable) -> None:
    assert MLFLOW.command in text_of(report)
    assert f"optuna-dashboard {table.storage}" in text_of(report)
    assert (
        "python -m harness.search loss_weights --data /data --sources drive,stare --targets chase_db1,hrf"
        in text_of(report)
    )


def test_a_trace_is_called_a_trace(report: SearchReport, table: StudyTable) -> None:
    assert "A trace is not a probe" in text_of(report)
    probed = replace(table, question=table.question | {"sampler": {"kind": "random"}})
    found = replace(summarize(probed, 5, 0), importance=report.findings.importance)
    assert "A trace is not a probe" not in told_of(found)


def test_what_cannot_be_concluded_is_said(report: SearchReport) -> None:
    limits = text_of(report).partition("## What this report cannot tell")[2]
    assert "needs 50 completed trials, there are 19" in text_of(report), "and no figure of it"
    assert "one seed" in limits
    assert "not about hospitals in general" in limits


def test_prompts_from_ground_truth_are_marked(table: StudyTable) -> None:
    prompted = replace(table, trials=table.trials.assign(oracle_prompt=True))
    found = summarize(prompted, 5, 0)
    text = told_of(found)
    assert text.count("† Prompted from ground truth") == 4  # under the settings and under each table of test scores
    assert text.count("| 16 † |") == 3
    assert "which a new patient does not have" in "\n\n".join(plainly(found))
    assert found.best["oracle_prompt"].all()
    assert found.scores["oracle_prompt"].all()
    assert not found.mixed
    unprompted = told_of(summarize(table, 5, 0))
    assert "round truth" not in unprompted
    assert "†" not in unprompted


def told(table: StudyTable, *numbers: int) -> StudyTable:
    """The study with the trials of ``numbers`` prompted from the ground truth."""
    flags = table.trials["number"].isin(numbers).astype("boolean")
    return replace(table, trials=table.trials.assign(oracle_prompt=flags))


def test_a_trial_that_was_told_the_answer_does_not_lead(table: StudyTable) -> None:
    """Trial 16 has the best score by far; prompted from the ground truth, it stands after the others."""
    plain = summarize(table, 5, 0).best["number"].tolist()
    found = summarize(told(table, 16, 3), 3, 0)
    assert found.mixed
    assert found.best["number"].tolist()[:3] == [number for number in plain if number not in (16, 3)][:3]
    assert found.best["number"].tolist()[3:] == [16, 3]
    assert found.best["place"].tolist() == [1, 2, 3, 4, 5]
    assert found.best["oracle_prompt"].tolist() == [False] * 3 + [True] * 2
    text = told_of(found)
    assert text.count("the two are not comparable") == 3
    assert "| 16 † |" in text
    assert f"trial {plain[1]}, reach" in "\n\n".join(plainly(found))
    assert "ranked below it" in "\n\n".join(plainly(found))
    assert "which a new patient does not have" not in "\n\n".join(plainly(found))
    assert "what the prompt gives away" in text.partition("## What this report cannot tell")[2]


def test_prompts_from_ground_truth_reach_files_terminal_and_tracker(table: StudyTable, tmp_path: Path) -> None:
    made = write(told(table, 16), tmp_path, MLFLOW, evaluators=FAST)
    for name in ("trials", "best", "scores"):
        rows = pd.read_csv(made.folder / f"{name}.csv").dropna(subset="oracle_prompt")
        assert set(rows.loc[rows["oracle_prompt"].astype(bool), "number"]) == {16}
    assert made.summary["best/oracle_prompt"] == 0.0
    assert made.tags["best_trial"] != "16"
    console = Console(record=True, width=200, file=io.StringIO())
    show_result(made.findings, console)
    show_importance(made.findings, console)
    shown = console.export_text()
    assert shown.count("16 †") == 2
    assert "Prompted from ground truth" in shown


def test_the_summary_holds_finite_numbers_for_a_tracker(report: SearchReport) -> None:
    summary = report.summary
    assert report.tags == {"best_trial": "16"}
    assert summary["trials/stopped"] == 9
    assert summary["best/test/hrf/dice/low"] < summary["best/test/hrf/dice"] < summary["best/test/hrf/dice/high"]
    assert "importance/fanova/weight/soft_dice" in summary
    assert np.isfinite(list(summary.values())).all()
    assert report.note in text_of(report)


def test_the_complete_settings_of_the_best_can_be_pasted(report: SearchReport, table: StudyTable) -> None:
    block = re.search(r"```json\n(.*?)```", text_of(report), flags=re.DOTALL)
    assert block is not None
    assert json.loads(block.group(1)) == json.loads(table.trials.set_index("number").loc[16, "config"])


def test_markdown_tables_are_rectangular(report: SearchReport) -> None:
    for block in re.findall(r"(?:^\|.*\n)+", text_of(report), flags=re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1, block


def test_a_study_without_a_completed_trial_is_reported_as_such(
    fabricate: Callable[..., Any], add_trial: Callable[..., str], tmp_path: Path
) -> None:
    def fill(study: optuna.Study, runs: Path) -> None:
        for outcome in ("stopped", "crashed", "diverged"):
            add_trial(study, runs, np.random.default_rng(0), outcome)

    record = fabricate(fill)
    made = write(read(record.url, record.name, record.runs), tmp_path, MLFLOW)
    assert "Of 3 trials none has completed yet" in text_of(made)
    assert not (made.folder / "targets.png").exists()
    assert "fANOVA" in text_of(made)
    assert (made.folder / "history.png").is_file()
    assert "> Not shown: no trial has completed, so there are none." in text_of(made)
    assert not (made.folder / "best.csv").exists()


def test_a_study_without_any_trial_is_reported_as_such(fabricate: Callable[..., Any], tmp_path: Path) -> None:
    record = fabricate(lambda study, runs: None)
    made = write(read(record.url, record.name, record.runs), tmp_path, MLFLOW)
    assert "No trial has been run yet." in text_of(made)
    assert not list(made.folder.glob("*.png"))
    assert "python -m harness.search loss_weights" in text_of(made)


@pytest.fixture(scope="module")
def few(fabricate: Callable[..., Any], add_trial: Callable[..., str]) -> Any:
    """A record of four completed trials."""

    def fill(study: optuna.Study, runs: Path) -> None:
        rng = np.random.default_rng(0)
        for _ in range(4):
            add_trial(study, runs, rng, "completed")

    return fabricate(fill)


def test_few_trials_are_told_what_is_missing(few: Any, tmp_path: Path) -> None:
    made = write(read(few.url, few.name, few.runs), tmp_path, MLFLOW)
    assert "With 4 completed trials nothing can be said about what mattered: that needs at least 10." in text_of(made)
    assert "not shown: needs 10 completed trials, there are 4" in text_of(made)
    assert pd.read_csv(made.folder / "importance.csv")["importance"].isna().all()


class TestCommand:
    def test_it_prints_and_writes(self, few: Any, capsys: pytest.CaptureFixture[str]) -> None:
        code = main(["loss_weights", "--out", str(few.runs), "--top", "2"])
        folder = few.runs / "loss_weights" / "report"
        printed = capsys.readouterr().out
        best = read(few.url, few.name, few.runs).trials["value"].max()
        assert code == 0
        assert score(best) in printed
        assert "fANOVA" in printed
        assert str(folder / "report.html") in printed.replace("\n", "")
        assert len(pd.read_csv(folder / "best.csv")) == 2

    def test_an_unknown_name_gets_the_nearest(self, full: Any, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["loss_wieghts", "--out", str(full.runs)]) == 2
        told = capsys.readouterr()
        assert "Did you mean 'loss_weights'?" in told.err
        assert told.out == ""

    def test_an_unknown_study_is_refused(self, full: Any, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["loss_weights", "--study", "other", "--out", str(full.runs)]) == 2
        assert "No study 'other'" in capsys.readouterr().err

    def test_a_search_that_was_never_run_is_told_how(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(declarations, "names", {"search_spaces": ["rank"], "ablations": ["components"]}.__getitem__)
        assert main(["rank", "--out", str(tmp_path)]) == 2
        assert "python -m harness.search rank" in capsys.readouterr().err
        assert main(["components", "--out", str(tmp_path)]) == 2
        assert "python -m harness.ablate components" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("top", ["0", "-1"])
    def test_top_must_be_positive(self, top: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            main(["loss_weights", "--top", top])
        assert "must be a whole number of 1 or more" in capsys.readouterr().err


def test_a_name_means_its_latest_study_or_the_study_itself(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    for name in ("loss_weights-drive", "loss_weights-hrf", "rank"):
        study = optuna.create_study(storage=url, study_name=name)
        study.set_user_attr("question", {"search": name.partition("-")[0]})
    assert resolve("loss_weights", url) == "loss_weights-hrf"
    assert resolve("loss_weights-drive", url) == "loss_weights-drive"
    with pytest.raises(UnknownStudy, match="Did you mean 'rank'") as refusal:
        resolve("ranks", url)
    there, runnable = str(refusal.value).splitlines()[1:]
    assert there == "Studies there: loss_weights-drive, loss_weights-hrf, rank."
    assert runnable.startswith("What can be run: the searches ")
    assert "paper" in runnable
    with pytest.raises(UnknownStudy, match=r"no study of 'paper' in .*\n  python -m harness\.search paper"):
        resolve("paper", url)


def test_a_folder_without_a_record_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nope", "--out", str(tmp_path / "nowhere")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: There is no record at sqlite:///{tmp_path}/nowhere/optuna.db: give the --out")
    assert not (tmp_path / "nowhere").exists()


def test_a_report_opens_without_torch_ray_or_sam2(few: Any) -> None:
    program = (
        "import sys, optuna.importance, harness.report; code = harness.report.main(sys.argv[1:]);"
        "heavy = {'torch', 'ray', 'sam2', 'mlflow', 'matplotlib.pyplot'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    arguments = ["loss_weights", "--out", str(few.runs)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


def test_targets_that_gave_patients_and_images_that_were_left_out_are_told(
    fabricate: Callable[..., Any], tmp_path: Path
) -> None:
    why = "clinic/images/3.png: an image file must be readable, but it is empty"
    asked = {"protocol": {"kind": "few_shot", "shots": 2}, "copies": ["alike: drive 21 and clinic 3"]}
    made = fabricate(lambda study, runs: None, left_out={"clinic": [why]}, **asked)
    text = write(read(made.url, made.name, made.runs), tmp_path, MLFLOW).folder.joinpath("report.md").read_text()
    assert f"| files of clinic left out on request | 1: {why} |" in text
    assert "| photographs that may be copies | alike: drive 21 and clinic 3 |" in text
    assert "| targets (after 2 patients, test only) |" in text
    assert "2 patients each joined the training; test scores are those of their test parts" in text
    assert "never used to choose" not in text


def test_the_answer_names_settings_and_hospitals_known_and_unseen(report: SearchReport, table: StudyTable) -> None:
    first, second, _ = report.note.split("\n\n")
    top = table.trials.set_index("number").loc[16]
    assert f"lr {top['param/lr']:.3g}" in first
    weights = {name: top[name] for name in table.trials if name.startswith("weight/")}
    assert all((f"{label(name)} {weight:.3g}" in first) == (weight > 0) for name, weight in weights.items())
    assert "On unseen hospitals" in second
    assert "On other images of the training hospitals: " in second


def test_a_narrow_terminal_cuts_no_number(table: StudyTable, report: SearchReport) -> None:
    """At 40 columns the tables do not fit: each row is told in words, with every number whole."""
    for width in (40, 200):
        console = Console(record=True, width=width, file=io.StringIO())
        show_result(report.findings, console)
        show_importance(report.findings, console)
        shown = console.export_text()
        assert "…" not in shown
        assert ("place 1; trial 16; validation " in " ".join(shown.split())) == (width == 40)


def test_the_report_tells_how_it_is_made_again_from_where_it_lies(table: StudyTable) -> None:
    elsewhere = replace(table, out=Path("/data/my runs"), storage="sqlite:////data/my runs/optuna.db")
    assert commands.report(elsewhere).endswith(f"{table.name} --out '/data/my runs'")
    apart = replace(table, out=Path("runs"), storage="postgresql://host/optuna")
    assert commands.report(apart).endswith(f"{table.name} --storage postgresql://host/optuna")
    usual = replace(table, out=Path("runs"), storage="sqlite:///runs/optuna.db")
    assert commands.report(usual).endswith(f"--study {table.name}")
