"""Figures show what they say: how many trials, which are filled, which data sets are unseen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from optuna.distributions import FloatDistribution

from harness.figures import curves, history, importance, simplex, style, targets
from harness.importance.resampling import refused
from harness.table import StudyTable, read


@pytest.fixture(scope="module")
def table(full: Any) -> StudyTable:
    return read(full.url, full.name, full.runs)


def texts(figure: Figure) -> set[str]:
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    return {text.get_text() for legend in legends for text in legend.get_texts()}


def with_components(table: StudyTable, count: int) -> StudyTable:
    """The same trials with ``count`` loss components of random weights."""
    weights = np.random.default_rng(0).dirichlet(np.ones(count), size=len(table.trials))
    names = [f"weight/loss{index}" for index in range(count)]
    spreads = {name: spread for name, spread in table.distributions.items() if not name.startswith("weight/")}
    trials = table.trials.assign(**dict(zip(names, weights.T, strict=True)))
    return replace(table, trials=trials, distributions=spreads | dict.fromkeys(names, FloatDistribution(0.0, 1.0)))


@pytest.mark.parametrize(("count", "panels"), [(2, 1), (4, 4), (5, 5)])
def test_simplex_has_a_panel_per_free_component(table: StudyTable, count: int, panels: int) -> None:
    figure = simplex.draw(with_components(table, count))
    assert len(figure.axes) == panels
    assert texts(figure) == {"completed (19)", "stopped early (9)"}


def test_three_components_make_a_ternary_plot_with_stopped_trials_hollow(table: StudyTable) -> None:
    figure = simplex.draw(table)
    ternary = figure.axes[0]
    assert ternary.name == "ternary"
    drawn = {dots.get_label(): dots for dots in ternary.collections}
    assert set(drawn) == {"stopped early (9)", "diverged (3)", "completed (19)", "best (trial 16)"}
    assert len(drawn["stopped early (9)"].get_offsets()) == 9
    np.testing.assert_array_equal(drawn["stopped early (9)"].get_facecolor()[0], to_rgba("white"))
    assert len(drawn["completed (19)"].get_array()) == 19


def test_a_simplex_needs_two_components(table: StudyTable) -> None:
    with pytest.raises(ValueError, match="this study has 0"):
        simplex.draw(replace(table, distributions={}))


def test_history_holds_every_trial_once_and_the_best_so_far(table: StudyTable) -> None:
    figure = history.draw(table)
    assert [len(axes.collections) for axes in figure.axes] == [5, 5]
    assert sum(len(dots.get_offsets()) for dots in figure.axes[0].collections) == 35  # the reused one cost nothing
    best = figure.axes[0].lines[0].get_ydata()
    assert (np.diff(best) >= 0).all()
    assert best[-1] == table.trials["value"].max()


def test_curves_draw_each_trial_with_a_curve(table: StudyTable) -> None:
    figure = curves.draw(table)
    assert texts(figure) == {"other completed (18)", "stopped early (9)", "diverged (3)", "best (trial 16)"}
    assert len(figure.axes[0].lines) == 18 + 9 + 3 + 1


def test_targets_stand_apart_below_the_sources() -> None:
    measured = {"mean": 0.6, "low": 0.5, "high": 0.7, "n": 9, "clusters": 8, "oracle_prompt": False}
    rows = [
        {"place": place, "number": 10 + place, "dataset": name, "role": role, **measured}
        for place in (1, 2)
        for name, role in (("hrf", "target"), ("drive", "source"))
    ]
    rows.append(rows[0] | {"place": 3, "number": 13, "low": np.nan, "high": np.nan, "clusters": np.nan})
    figure = targets.draw(pd.DataFrame(rows), "dice")
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert labels == ["drive\n9 images, 8 patients", "hrf\n9 images, 8 patients"]
    assert {"source (test split)", "unseen target", "place 3: trial 13"} <= texts(figure)
    assert figure.axes[0].get_xlabel() == "test Dice: mean over images, 95 % interval over patients"


def test_an_importance_that_was_refused_says_so() -> None:
    known = refused(["param/lr", "weight/bce"], 4, [4, 4], "needs 10 completed trials, there are 4")
    figure = importance.draw([importance.Panel(title, "which?", known) for title in ("fANOVA", "PED-ANOVA")])
    assert all("needs 10 completed trials" in axes.texts[0].get_text().replace("\n", " ") for axes in figure.axes)
    assert figure.axes[0].get_title(loc="left").startswith("fANOVA, 4 completed trials")


def test_equal_figures_are_equal_files(table: StudyTable, tmp_path: Path) -> None:
    first = style.save(curves.draw(table), tmp_path / "curves")
    before = [path.read_bytes() for path in first]
    assert [path.suffix for path in first] == [".png", ".svg"]
    assert [path.read_bytes() for path in style.save(curves.draw(table), tmp_path / "curves")] == before


def test_outcomes_differ_by_more_than_colour() -> None:
    looks = list(style.LOOKS.values())
    assert len({(look.marker, look.filled) for look in looks}) == len(looks)
