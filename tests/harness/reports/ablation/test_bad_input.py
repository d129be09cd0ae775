"""Whatever is wrong with a study, its report says what it left out, or why there is none; never a silent number."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.errors import RecordError
from harness.record.ablation_scores import ablation_scores, recorded_ablation
from harness.record.table import StudyTable
from harness.report import main
from harness.reports.ablation.findings import Findings, analyse
from harness.reports.ablation.judgement import judge
from harness.reports.ablation.page import document
from harness.reports.rendering import markdown
from harness.simulation.examples import loss_components
from harness.simulation.study import SimulatedStudy
from harness.stats.scores import Floats
from harness.stats.verdicts import DoesNotMatter, Matters, Undecided
from harness.tracking.mlflow_tracking import MlflowTracking

HINT = MlflowTracking("sqlite:///mlflow.db").hint("study")

Recorded = Callable[[SimulatedStudy], tuple[StudyTable, Path]]


@pytest.fixture(scope="module")
def small() -> SimulatedStudy:
    """All trials completed: 8 arms, 5 replicates, two targets of 8 and 6 images."""
    study = loss_components(5, targets={"cedar": 8, "willow": 6})
    finished = np.ones_like(study.cells.finished)
    return replace(study, cells=replace(study.cells, finished=finished), endings={})


def changed(study: SimulatedStudy, name: str, change: Callable[[Floats], Floats]) -> SimulatedStudy:
    """The study with the scores (arms, replicates, images) of one set changed."""
    targets = tuple(
        replace(target, scores=change(target.scores.copy())) if target.name == name else target
        for target in study.cells.targets
    )
    return replace(study, cells=replace(study.cells, targets=targets))


def told(study: SimulatedStudy, recorded: Recorded) -> tuple[Findings, str]:
    found = analyse(judge(recorded(study)[0], 0), 0, Path())
    return found, markdown.write(document(found, HINT, Path("none")), {})


def test_unequal_replicates_after_crashes(small: SimulatedStudy, recorded: Recorded) -> None:
    finished = small.cells.finished.copy()
    finished[2, 0] = finished[2, 1] = finished[5, 1] = False
    found, text = told(replace(small, cells=replace(small.cells, finished=finished)), recorded)
    used = {one.effect.contrast: (one.effect.replicates, one.effect.filled) for one in found.judged}
    assert used == {"bce": (5, 3), "soft_dice": (5, 1), "focal_tversky": (5, 3)}
    assert "3 of 40 trials have no result" in text
    assert "| 5, 3 runs imputed |" in text


def test_too_few_replicates_are_no_verdict(small: SimulatedStudy, recorded: Recorded) -> None:
    finished = small.cells.finished.copy()
    finished[7, :3] = False
    found, text = told(replace(small, cells=replace(small.cells, finished=finished)), recorded)
    assert all(isinstance(one.verdict, Undecided) and math.isnan(one.effect.p) for one in found.judged)
    assert "only 2 replicates completed" in text


def test_a_target_that_no_trial_has_is_named(small: SimulatedStudy, recorded: Recorded) -> None:
    table, _ = recorded(small)
    without = replace(table, images=table.images[table.images["dataset"] != "willow"])
    found = analyse(judge(without, 0), 0, Path())
    assert [target.name for target in found.cells.targets] == ["cedar"]
    assert "Target willow is named by the question, but no trial has scores of it." in found.scores.left_out


def test_a_target_that_one_trial_lacks_is_counted(small: SimulatedStudy, recorded: Recorded) -> None:
    table, _ = recorded(small)
    key = table.trials.loc[table.trials["param/arm"] == "bce", "key"].iloc[0]
    gone = (table.images["dataset"] == "willow") & (table.images["key"] == key)
    found = analyse(judge(replace(table, images=table.images[~gone]), 0), 0, Path())
    assert "willow: 1 of 40 completed trials have no score of it." in found.scores.left_out
    assert {one.effect.contrast: one.effect.filled for one in found.judged}["soft_dice"] == 1


def test_undefined_scores_leave_their_image_out(small: SimulatedStudy, recorded: Recorded) -> None:
    def undefined(scores: Floats) -> Floats:
        scores[3, 2, 4] = math.nan
        return scores

    found, text = told(changed(small, "cedar", undefined), recorded)
    undefined_in = {one.effect.contrast: one.effect.undefined for one in found.judged}
    assert undefined_in == {"bce": 1, "soft_dice": 1, "focal_tversky": 0}
    assert "cedar: 1 scores of single images are undefined" in text
    assert "| 13 of 14 |" in text


def test_images_with_nothing_to_find_are_told(table: StudyTable) -> None:
    first = (table.images["dataset"] == "cedar") & (table.images["image"] == "cedar_000")
    images = table.images.assign(sensitivity=np.where(first, math.nan, 0.5))
    told = ablation_scores(replace(table, images=images), recorded_ablation(table)).left_out
    assert any(line.startswith("cedar: 1 of 20 images have nothing to find in the field of view") for line in told)


def test_a_constant_metric_is_no_effect_and_no_crash(small: SimulatedStudy, recorded: Recorded) -> None:
    study = small
    for name in ("alder", "birch", "cedar", "willow"):
        study = changed(study, name, lambda scores: np.full_like(scores, 0.75))
    found, text = told(study, recorded)
    assert not any(isinstance(one.verdict, Matters) for one in found.judged)
    assert all(one.effect.estimate == 0.0 and isinstance(one.verdict, DoesNotMatter) for one in found.judged)
    assert "nan" not in text.lower().replace("nano", "")


def test_one_image_in_a_target_gives_no_interval(recorded: Recorded) -> None:
    study = loss_components(5, targets={"cedar": 8, "willow": 1})
    found, text = told(study, recorded)
    assert all(isinstance(one.verdict, Undecided) for one in found.judged)
    assert "willow has one patient" in text


def test_the_sources_judge_where_there_is_no_target(small: SimulatedStudy, recorded: Recorded) -> None:
    table, _ = recorded(small)
    question = table.question | {"targets": []}
    images = table.images[table.images["role"] == "source"]
    found = analyse(judge(replace(table, question=question, images=images), 0), 0, Path())
    assert [target.name for target in found.cells.targets] == ["alder", "birch"]
    assert "the study has no targets" in document(found, HINT, Path("none")).lead[1].text  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda asked: asked.pop("contrasts"), "it has no 'contrasts'"),
        (lambda asked: asked.update(contrasts={"x": {"nobody": 1.0, "bce": -1.0}}), "must name arms"),
        (lambda asked: asked.update(replicates=[0, 1]), "cannot unpack"),
    ],
)
def test_a_declaration_of_another_version_is_refused(
    table: StudyTable, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    asked = json.loads(json.dumps(table.question["ablation"]))
    change(asked)
    other = replace(table, question=table.question | {"ablation": asked}, provenance={"git": "0123abc"})
    with pytest.raises(RecordError, match="recorded by version 0123abc") as error:
        recorded_ablation(other)
    assert says in str(error.value)


def test_a_metric_that_was_not_measured_is_refused(table: StudyTable) -> None:
    asked = {**table.question["ablation"], "primary": "cldice"}
    other = replace(table, question=table.question | {"ablation": asked})
    with pytest.raises(RecordError, match=r"'cldice'.*dice, iou, auc"):
        ablation_scores(other, recorded_ablation(other))


def test_a_record_about_a_metric_of_which_less_is_better_is_refused(table: StudyTable) -> None:
    """Written before it was refused when declared: its verdicts would be inverted."""
    asked = {**table.question["ablation"], "primary": "hd95"}
    with pytest.raises(RecordError, match=r"of HD95 less is better, and its pixels differ .* another --study"):
        recorded_ablation(replace(table, question=table.question | {"ablation": asked}))


def test_a_study_without_a_finished_trial_says_so(table: StudyTable) -> None:
    trials = table.trials.assign(outcome="crashed")
    empty = replace(table, trials=trials, images=table.images.head(0), curves=table.curves.head(0))
    found = analyse(judge(empty, 0), 0, Path())
    text = markdown.write(document(found, HINT, Path("none")), {})
    assert "so there is no verdict" in text
    assert "56 of 56 trials (arm x replicate) have not completed." in text


@pytest.fixture
def copied(small: SimulatedStudy, recorded: Recorded, tmp_path: Path) -> Path:
    _, folder = recorded(small)
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_a_damaged_record_is_one_message(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (copied / "optuna.db").read_bytes()
    for torn in (b"no database" * 99, whole[: len(whole) // 2]):
        (copied / "optuna.db").write_bytes(torn)
        assert main(["loss_components", "--out", str(copied)]) == 2
        assert "python -m harness.doctor --repair" in capsys.readouterr().err


def test_a_locked_record_is_one_message(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    holder = sqlite3.connect(copied / "optuna.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        assert main(["loss_components", "--out", str(copied)]) == 2
    finally:
        holder.close()
    assert "database is locked" in capsys.readouterr().err


def test_replicates_that_were_added_count(table: StudyTable) -> None:
    asked = {**table.question["ablation"], "replicates": table.question["ablation"]["replicates"][:3]}
    shorter = replace(table, question=table.question | {"ablation": asked})
    assert recorded_ablation(shorter).replicates == recorded_ablation(table).replicates


def test_whose_patients_the_sets_hold_is_read_from_the_protocol(table: StudyTable) -> None:
    """RITE shows the eyes of DRIVE: two names, one pool."""
    rite = {"kind": "incomplete", "dataset": {"kind": "rite"}, "missing": "skip"}
    sets = [{"kind": "drive", "annotator": "second"}, rite, {"kind": "stare"}]
    protocol = {"kind": "transfer", "sources": [{"kind": "hrf"}], "targets": sets, "target_images": "test"}
    found = recorded_ablation(replace(table, question=table.question | {"protocol": protocol})).pools
    assert found["drive"] & found["rite"]
    assert not found["stare"] & (found["drive"] | found["hrf"])
    broken = {"protocol": protocol | {"targets": [{"kind": "driv"}]}}
    with pytest.raises(RecordError, match="must be readable by this version"):
        recorded_ablation(replace(table, question=table.question | broken))
