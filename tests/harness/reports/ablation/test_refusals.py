"""What is refused is in no output: page, Markdown, CSV, LaTeX, figures, terminal, tracker."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from harness.record.table import StudyTable
from harness.reports.ablation.components import groups
from harness.reports.ablation.report import AblationReport, show_verdicts, write
from harness.reports.build import SILENT
from harness.simulation.examples import loss_components, loss_mixture, rank
from harness.simulation.study import SimulatedStudy
from harness.stats.mixture import Region
from harness.stats.refusal import Refused
from harness.stats.scores import Floats, Target
from harness.tracking.mlflow_tracking import MlflowTracking

HINT = MlflowTracking("sqlite:///mlflow.db").hint("study")

Recorded = Callable[[SimulatedStudy], tuple[StudyTable, Path]]
SMALL = {"cedar": 6, "willow": 5}


def complete(study: SimulatedStudy) -> SimulatedStudy:
    return replace(study, cells=replace(study.cells, finished=np.ones_like(study.cells.finished)), endings={})


def factorial(replicates: int = 3, targets: dict[str, int] | None = None) -> SimulatedStudy:
    return complete(loss_components(replicates, targets=targets or SMALL))


def scored(study: SimulatedStudy, change: Callable[[Target], Floats]) -> SimulatedStudy:
    targets = tuple(replace(one, scores=change(one)) for one in study.cells.targets)
    return replace(study, cells=replace(study.cells, targets=targets))


def failed(study: SimulatedStudy, arms: slice, replicates: slice) -> SimulatedStudy:
    finished = study.cells.finished.copy()
    finished[arms, replicates] = False
    return replace(study, cells=replace(study.cells, finished=finished))


def undefined(study: SimulatedStudy, name: str, arms: slice = slice(None)) -> SimulatedStudy:
    def gone(target: Target) -> Floats:
        scores = target.scores.copy()
        scores[arms] = math.nan if target.name == name else scores[arms]
        return scores

    return scored(study, gone)


def bent(study: SimulatedStudy) -> SimulatedStudy:
    """Scores at every second point of the mixture that no low polynomial goes through."""

    def added(target: Target) -> Floats:
        steps = 0.1 * (np.arange(len(target.scores)) % 2)[:, None, None]
        noise = np.random.default_rng(0).normal(0.0, 1e-3, target.scores.shape)
        return np.asarray(0.5 + steps + noise, dtype=np.float64)

    return scored(study, added)


def many(study: SimulatedStudy) -> SimulatedStudy:
    """41 arms: seven, and copies of the first under other names."""
    arms = [*study.cells.arms, *(f"rank 4 copy {k}" for k in range(34))]
    place = [*range(7), *[0] * 34]
    targets = tuple(replace(one, scores=one.scores[place]) for one in study.cells.targets)
    cells = replace(study.cells, arms=tuple(arms), targets=targets, finished=study.cells.finished[place])
    differences = study.ablation["arms"] | dict.fromkeys(arms[7:], study.ablation["arms"]["rank 4"])
    return replace(study, cells=cells, ablation={**study.ablation, "arms": differences})


@dataclass(frozen=True)
class Case:
    """A study, what its page must say, and which figures and tables are not there."""

    study: Callable[[], SimulatedStudy]
    says: str
    gone: frozenset[str]


ALONE = frozenset({"shapley", "interactions"})
CASES = {
    "two replicates": Case(
        lambda: failed(factorial(), slice(None), slice(2, None)),
        "only 2 replicates completed in all of its arms; an interval takes 3",
        ALONE,
    ),
    "one patient": Case(lambda: factorial(targets={"cedar": 6, "willow": 1}), "willow has one patient", ALONE),
    "a target undefined": Case(lambda: undefined(factorial(), "cedar"), "no image of cedar has a score", ALONE),
    "one arm left": Case(lambda: failed(factorial(), slice(1, None), slice(None)), "there are 0", ALONE | {"variance"}),
    "an arm without a run": Case(
        lambda: failed(factorial(), slice(4, 5), slice(None)), "bce+soft_dice has none", frozenset({"shapley"})
    ),
    "an arm undefined": Case(lambda: undefined(factorial(), "cedar", slice(7, 8)), "have no score of it", ALONE),
    "all equal": Case(
        lambda: scored(factorial(), lambda target: np.full_like(target.scores, 0.75)),
        "A split of variance needs scores that vary",
        frozenset({"variance"}),
    ),
    "no factorial": Case(lambda: rank(3), "Components need a factorial design", ALONE),
    "more arms than are ranked": Case(lambda: many(rank(3)), "40 at most, but there are 41", ALONE),
    "a surface that does not fit": Case(lambda: bent(loss_mixture(3)), "does not fit", ALONE | {"mixture"}),
    "a mixture of two replicates": Case(
        lambda: failed(loss_mixture(3), slice(None), slice(2, None)), "No region can be given", ALONE
    ),
}


@pytest.fixture(scope="module", params=CASES, ids=list(CASES))
def case(request: pytest.FixtureRequest, recorded: Recorded) -> tuple[Case, AblationReport]:
    found = CASES[request.param]
    table, folder = recorded(found.study())
    return found, write(table, folder, HINT, 0, SILENT)


def test_the_page_says_why(case: tuple[Case, AblationReport]) -> None:
    wanted, made = case
    text = (made.folder / "report.md").read_text()
    assert wanted.says in text
    assert "nan" not in text.replace("nano", "").lower()


def test_what_is_refused_has_no_file_and_no_picture(case: tuple[Case, AblationReport]) -> None:
    wanted, made = case
    there = {path.stem for path in made.folder.iterdir()}
    assert not there & wanted.gone
    page = (made.folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(list(made.folder.glob("*.png")))
    refused = {name for name in ("shapley", "interactions", "variances", "mixture")
               if isinstance(getattr(made.findings, name), Refused)}  # fmt: skip
    assert not there & ({name.removesuffix("s") if name == "variances" else name for name in refused})
    assert ("aggregates" in there) == any(math.isfinite(one.iqm_low) for one in made.findings.aggregates)
    if isinstance(made.findings.ranks, Refused):
        assert pd.read_csv(made.folder / "scores.csv").filter(like="rank_").isna().all(axis=None)


def test_a_number_without_an_interval_says_so_wherever_it_is(case: tuple[Case, AblationReport]) -> None:
    _, made = case
    alone = [one for one in made.findings.judged if one.effect.why]
    console = Console(file=io.StringIO(), record=True, width=300)
    show_verdicts(made.findings, console)
    shown, typeset = console.export_text(), (made.folder / "verdicts.tex").read_text()
    for one in alone:
        name = f"effect/{one.effect.contrast}"
        assert {name, f"{name}/low", f"{name}/high", f"{name}/holm_p"}.isdisjoint(made.summary)
        assert made.tags[f"verdict/{one.effect.contrast}"] == "undecided: no interval"
        if math.isfinite(one.effect.estimate):
            told = f"{one.effect.estimate:+.4f} (no interval)"
            assert all(told in text for text in (shown, typeset, made.note, (made.folder / "report.md").read_text()))
    for mean in made.findings.means:
        name = f"mean/{mean.arm}/{mean.target or 'all'}"
        assert (name in made.summary) == (f"{name}/low" in made.summary) == (not mean.why)
    flat = pd.read_csv(made.folder / "verdicts.csv")
    own = flat[flat["why"].notna()]
    assert own[["low", "high", "p", "holm_p", "detectable", "more_replicates"]].isna().all(axis=None)


def test_a_region_that_is_refused_is_not_drawn(recorded: Recorded) -> None:
    """Every dot would say that its mixture may be the best."""
    study = CASES["a mixture of two replicates"].study()
    table, folder = recorded(study)
    made = write(table, folder, HINT, 0, SILENT)
    assert not isinstance(made.findings.mixture, Refused)
    fitted, _ = made.findings.mixture
    assert isinstance(fitted.region, Refused)
    assert math.isnan(fitted.low)
    assert "may be the best" not in (made.folder / "mixture.svg").read_text()
    assert "small dots" not in (made.folder / "report.md").read_text()


def test_the_predicted_best_has_the_interval_of_its_coefficients(recorded: Recorded) -> None:
    """At a corner of the simplex the surface is that component's coefficient: one number, one interval."""
    study = complete(loss_mixture(4))
    names = study.ablation["design"]["components"]
    weights = np.array([[study.ablation["design"]["points"][arm][name] for name in names] for arm in study.cells.arms])
    rng = np.random.default_rng(0)

    def slope(target: Target) -> Floats:
        scores = 0.5 + weights @ np.array([0.0, 0.1, 0.05])
        return np.asarray(scores[:, None, None] + rng.normal(0, 0.004, target.scores.shape), dtype=np.float64)

    table, folder = recorded(scored(study, slope))
    made = write(table, folder, HINT, 0, SILENT)
    assert not isinstance(made.findings.mixture, Refused)
    fitted, _ = made.findings.mixture
    assert isinstance(fitted.region, Region)
    assert fitted.best[names[1]] == 1.0
    own = fitted.terms.set_index("term").loc[names[1]]
    assert (fitted.predicted, fitted.low, fitted.high) == pytest.approx(tuple(own[["estimate", "low", "high"]]))
    assert f"{fitted.predicted:.3f} [{fitted.low:.3f}, {fitted.high:.3f}]" in (made.folder / "report.md").read_text()


def test_figures_draw_the_numbers_of_their_tables(recorded: Recorded) -> None:
    """One quantity, one interval: the forest's lines are the table of effects, in its order."""
    table, folder = recorded(factorial())
    made = write(table, folder, HINT, 0, SILENT)
    lines = [line for overall, targets in groups(made.findings) for line in (overall, *targets)]
    told = pd.read_csv(made.folder / "effects.csv")
    for name in ("estimate", "low", "high"):
        assert [getattr(line, name) for line in lines] == pytest.approx(told[name].tolist(), abs=1e-12)
    assert [line.n for line in lines] == [f"{r} x {i}" for r, i in zip(told["replicates"], told["images"], strict=True)]
