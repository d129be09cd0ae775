"""The written report: complete, self-contained, the same twice, and true to the numbers it was made of."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import compress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from rich.console import Console

from harness.designs import Crossed, setting
from harness.record.table import StudyTable
from harness.reports.ablation import format
from harness.reports.ablation.design import pairings
from harness.reports.ablation.report import AblationReport, show_verdicts, write
from harness.reports.ablation.verdicts import cautions, plainly
from harness.reports.build import SILENT
from harness.reports.figures.style import VERDICTS
from harness.reports.rendering import latex, markdown
from harness.reports.rendering.markdown import SIGNS
from harness.simulation.examples import loss_components, loss_mixture, rank
from harness.simulation.study import SimulatedStudy
from harness.stats.crossed_variance import weights
from harness.stats.refusal import Refused
from harness.stats.verdicts import Differs, DoesNotMatter, Opposed, SmallOnAverage, Verdict
from harness.tracking.mlflow_tracking import MlflowTracking

Recorded = Callable[[SimulatedStudy], tuple[StudyTable, Path]]

HINT = MlflowTracking("sqlite:///mlflow.db").hint("study")


@pytest.fixture(scope="module")
def made(study: SimulatedStudy, recorded: Recorded) -> AblationReport:
    """The report of ``study``, with a picture left by every trial."""
    table, folder = recorded(study)
    rows = [
        {"dataset": name, "role": "target", "image": "x", "place": "worst", "dice": 0.5, "top": top, "height": 10}
        for name, top in (("cedar", 4), ("willow", 18))
    ]
    text = PngInfo()
    text.add_text("rows", json.dumps(rows))
    for trial in (folder / study.name / "trials").iterdir():
        Image.new("RGB", (40, 32)).save(trial / "predictions.png", pnginfo=text)
    return write(table, folder, HINT, 0, SILENT)


def test_the_page_needs_nothing_but_itself(made: AblationReport) -> None:
    page = (made.folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(list(made.folder.glob("*.png")))
    assert not re.search(r"https?://|<link|<script|@import|url\(", page)
    assert re.findall(r"(?:src|href)=\"(?!data:|#)", page) == []


def test_every_table_is_there_in_four_forms(made: AblationReport) -> None:
    page, text = (made.folder / "report.html").read_text(), (made.folder / "report.md").read_text()
    tables = {path.stem for path in made.folder.glob("*.tex")}
    assert {"verdicts", "scores", "effects", "shapley", "interactions", "checks", "variance", "costs"} <= tables
    for name in tables:
        assert len(pd.read_csv(made.folder / f"{name}.csv")) > 0
        typeset = (made.folder / f"{name}.tex").read_text()
        assert typeset.count("{") - typeset.count(r"\{") == typeset.count("}") - typeset.count(r"\}")
        assert "\\toprule" in typeset
    assert page.count("<table>") == len(tables) == len(re.findall(r"^\|[ |-]*---[ |-]*$", text, re.MULTILINE))


def test_every_figure_is_a_png_and_an_svg(made: AblationReport) -> None:
    drawn = {path.stem for path in made.folder.glob("*.svg")}
    assert drawn == {"forest", "shapley", "interactions", "transfer", "curves", "variance"}
    assert {path.stem for path in made.folder.glob("*.png")} == drawn | {"panels_cedar", "panels_willow"}


def test_panels_are_cut_where_their_rows_are(made: AblationReport) -> None:
    assert Image.open(made.folder / "panels_willow.png").size == (40, 10)


def test_verdicts_state_effect_interval_n_and_what_is_missing(made: AblationReport) -> None:
    told = pd.read_csv(made.folder / "verdicts.csv").set_index("contrast")
    for one in made.findings.judged:
        row = told.loc[one.effect.contrast]
        assert row["estimate"] == pytest.approx(one.effect.estimate, abs=1e-12)
        assert row[["low", "high"]].notna().all()
        assert (row["replicates"], row["declared"], row["images"]) == (one.effect.replicates, 7, 60)
    assert "2 of 56 trials have no result" in made.note


def test_the_ablation_table_is_the_mean_of_the_scores(made: AblationReport, study: SimulatedStudy) -> None:
    told = pd.read_csv(made.folder / "scores.csv").set_index(["arm", "target"])
    cedar = next(target for target in study.cells.targets if target.name == "cedar")
    for place, arm in enumerate(study.cells.arms):
        finished = study.cells.finished[place]
        mean = weights(tuple(compress(study.cells.replicates, finished))) @ cedar.scores[place, finished].mean(axis=1)
        assert told.loc[(arm, "cedar"), "mean"] == pytest.approx(mean, abs=1e-12)
        assert told.loc[(arm, "cedar"), "replicates"] == finished.sum()


def test_undecided_looks_unlike_shown_to_be_small() -> None:
    looks = {(look.colour, look.marker, look.filled, look.line) for look in VERDICTS.values()}
    assert len(looks) == len(VERDICTS) == len(set(SIGNS.values()))
    assert all(latex.escaped(sign).isascii() for sign in SIGNS.values())
    assert VERDICTS["undecided"].line != VERDICTS["equal"].line


def test_the_same_record_gives_the_same_files(made: AblationReport) -> None:
    before = {path.name: path.read_bytes() for path in made.folder.iterdir()}
    again = write(made.findings.table, made.folder.parent.parent, HINT, 0, SILENT)
    assert {path.name: path.read_bytes() for path in again.files} == before


@pytest.mark.parametrize(("study", "section"), [(loss_mixture, "mixture"), (rank, "ranks_by_set")])
def test_other_designs_have_their_own_table(
    study: Callable[[], SimulatedStudy], section: str, recorded: Recorded, tmp_path: Path
) -> None:
    table, _ = recorded(study())
    report = write(table, tmp_path, HINT, 0, SILENT)
    frame = pd.read_csv(report.folder / f"{section}.csv")
    assert len(frame) > 0
    if section == "ranks_by_set":
        assert sorted(frame["rank"].unique()) == [4, 8, 16, 32, 64, 128, 256]
        assert np.isfinite(frame["mean"]).all()


def test_the_lead_says_which_arm_to_take_and_what_no_training_does(made: AblationReport) -> None:
    lead = (made.folder / "report.md").read_text().partition("## ")[0]
    overall = {mean.arm: mean.mean for mean in made.findings.means if mean.target is None}
    top = max(overall, key=overall.__getitem__)
    assert f"**{top}** has the highest mean, {overall[top]:.3f} [" in lead
    assert "too high by selection). It is " in lead
    assert f"The untrained model has {overall['empty']:.3f} [" in lead
    assert "which is no test" not in lead, "every arm of this study gains by training"


def test_the_untrained_arm_is_neither_ranked_nor_in_a_probability_of_improvement(made: AblationReport) -> None:
    ranks = made.findings.ranks
    assert not isinstance(ranks, Refused)
    assert (
        {one.arm for one in ranks}
        == {one.arm for one in made.findings.aggregates}
        == set(made.findings.cells.arms) - {"empty"}
    )
    told = pd.read_csv(made.folder / "scores.csv")
    placed = told[told["target"].isna()].set_index("arm")[["rank_place", "rank_best", "rank_worst"]]
    assert placed.loc["empty"].isna().all()
    assert {arm: tuple(row) for arm, row in placed.drop("empty").iterrows()} == {
        one.arm: (one.place, one.best, one.worst) for one in ranks
    }


def test_components_that_do_each_other_s_work_are_named_before_any_verdict(recorded: Recorded, tmp_path: Path) -> None:
    """Either of two brings .05, both together no more: on page, terminal and in the note alike."""
    arms = ("soft_dice", "focal_tversky", "soft_dice+focal_tversky", "bce+soft_dice", "bce+focal_tversky")
    study = loss_components(gains=dict.fromkeys((*arms, "bce+soft_dice+focal_tversky"), 0.05))
    table, _ = recorded(study)
    report = write(table, tmp_path, HINT, 0, SILENT)
    (pair,) = report.findings.interplays
    assert pair.interaction.estimate == pytest.approx(-0.05, abs=0.01)
    assert [one.estimate for one in pair.simple] == pytest.approx([0.054, 0.004, 0.07, 0.02], abs=0.01)
    told = f"focal_tversky and soft_dice depend on each other** (interaction {pair.interaction.estimate:+.4f} (95 % "
    assert report.note.index(told) < report.note.index("averages over these") < report.note.index("**bce**")
    for one in pair.simple:
        assert f"{one.contrast}, {one.estimate:+.4f} (95 % interval" in report.note
    assert told in (report.folder / "report.md").read_text()
    console = Console(file=io.StringIO(), record=True, width=300)
    show_verdicts(report.findings, console)
    shown = console.export_text()
    assert shown.index(told.replace("**", "")) < shown.index("contrast")


def test_without_such_a_pair_nothing_stands_before_the_verdicts(made: AblationReport) -> None:
    assert cautions(made.findings) == []


@pytest.mark.parametrize(
    ("kind", "components", "told"),
    [
        ("leave_one_out", {"a": "110", "b": "101"}, "blind to redundancy"),
        ("add_one_in", {"a": "010", "b": "001"}, "added to the base on its own"),
        ("factorial", {"a": "101", "b": "011"}, "next to the others, which is blind to redundancy"),
        ("levels", {}, None),
    ],
)
def test_a_design_that_cannot_see_redundancy_says_so(
    made: AblationReport, kind: str, components: dict[str, str], told: str | None
) -> None:
    first = made.findings
    held = {name: tuple(has == "1" for has in arms) for name, arms in components.items()}
    ablation = replace(first.ablation, design={"kind": kind}, arms=first.ablation.arms[:3], components=held)
    said = cautions(replace(first, ablation=ablation, interplays=()))
    assert told in said[0] if told else said == []


def test_the_two_factors_of_a_crossed_design_can_be_told_to_depend_on_each_other(made: AblationReport) -> None:
    """By the names that the design itself gives its arms."""
    design = Crossed(
        ("optimizer.lr",),
        {"low": setting(), "high": setting()},
        {"short": setting(), "long": setting()},
        ("low", "short"),
    )
    arms = ("low short", "low long", "high short", "high long")
    (pair,) = pairings(replace(made.findings.ablation, design=design.describe(), arms=arms, components={}))
    assert pair.interaction.weights == {"high long": 1.0, "high short": -1.0, "low long": -1.0, "low short": 1.0}
    assert (pair.one, pair.other) == tuple(contrast.name for contrast in design.contrasts())


def test_no_component_is_credited_with_what_training_brings(made: AblationReport) -> None:
    """BCE adds nothing; with the untrained model as a coalition it was credited with .15."""
    worth = pd.read_csv(made.folder / "shapley.csv").set_index("contrast")
    assert worth.loc["bce", "low"] < 0.0 < worth.loc["bce", "high"] < 0.03
    assert "Training itself gains +0.4" in (made.folder / "report.md").read_text()


def test_an_arm_that_is_not_trained_has_no_training_time_and_no_parameters(made: AblationReport) -> None:
    costs = pd.read_csv(made.folder / "costs.csv").set_index("arm")
    assert costs.loc["empty", ["train_seconds", "trainable_parameters"]].tolist() == [0.0, 0.0]
    assert (costs.drop("empty")[["train_seconds", "trainable_parameters"]] > 0.0).all(axis=None)
    line = next(line for line in (made.folder / "report.md").read_text().splitlines() if line.startswith("| empty | 7"))
    assert [cell.strip() for cell in line.split("|")].count("none") == 2
    trained_on = pd.read_csv(made.folder / "transfer.csv").groupby("arm")["trained_on"].first()
    assert trained_on["empty"] == "nothing"
    assert set(trained_on.drop("empty")) == {"alder + birch"}


def test_a_selected_effect_is_said_to_be_overstated_where_it_stands(made: AblationReport) -> None:
    (one,) = [one for one in made.findings.judged if one.effect.contrast == "focal_tversky"]
    assert one.inflation > 1.05
    assert f"overstate it by a factor of {one.inflation:.1f} on average" in made.note
    told = pd.read_csv(made.folder / "verdicts.csv").set_index("contrast")
    assert told.loc["focal_tversky", "inflation"] == pytest.approx(one.inflation)


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        (Opposed(("cedar",), ("rowan",)), "helps on cedar and hurts on rowan: cedar, "),
        (SmallOnAverage(("willow",)), "This is not shown on willow, "),
        (Differs("hurts", None, "the images are too few"), "perhaps too little to matter; the images are too few."),
        (DoesNotMatter(), "too small to be of interest, on each of the 3 targets."),
    ],
)
def test_every_verdict_has_its_words(made: AblationReport, verdict: Verdict, told: str) -> None:
    first = made.findings
    said = plainly(replace(first, judged=(replace(first.judged[0], verdict=verdict),)))
    assert told in said
    cell = format.verdict_cell(verdict)
    assert cell.tone in SIGNS
    assert cell.tone in VERDICTS
    assert f".verdict.{cell.tone} " in (Path(markdown.__file__).parent / "style.css").read_text()


def test_every_mean_in_a_tracker_has_its_interval_and_n(made: AblationReport) -> None:
    for mean in made.findings.means:
        name = f"mean/{mean.arm}/{mean.target or 'all'}"
        own = [made.summary[name + end] for end in ("", "/low", "/high", "/replicates", "/images")]
        assert own == [mean.mean, mean.low, mean.high, mean.replicates, mean.images]
