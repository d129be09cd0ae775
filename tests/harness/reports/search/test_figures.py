"""Figures show what they say: how many trials, which are filled, which data sets are unseen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution, FloatDistribution

from harness.importance.levels import CROSS_COLUMNS
from harness.importance.resampling import refused
from harness.record.outcome import KIND_OF
from harness.record.table import StudyTable, completed_trials, read
from harness.reports.figures import cross, curves, history, importance, pareto, simplex, style, targets
from harness.reports.search.findings import front


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


@pytest.mark.parametrize(("seconds", "unit"), [(1.0, "seconds"), (60.0, "minutes")])
def test_history_counts_trials_whole_and_time_in_a_unit_that_fits(table: StudyTable, seconds: float, unit: str) -> None:
    few = table.trials[table.trials["outcome"] == "completed"].head(4)
    figure = history.draw(replace(table, trials=few.assign(number=range(4), seconds=seconds)))
    assert all(tick == int(tick) for tick in figure.axes[0].get_xticks())
    assert figure.axes[1].get_xlabel() == f"cumulative trial time ({unit})"
    assert figure.axes[1].lines[0].get_xdata()[-1] == 4


def test_the_best_of_one_epoch_is_a_dot(table: StudyTable) -> None:
    figure = curves.draw(replace(table, curves=table.curves.groupby("number").head(1)))
    best = next(line for line in figure.axes[0].lines if str(line.get_label()).startswith("best"))
    assert (len(best.get_xdata()), best.get_marker(), best.get_markevery()) == (1, "o", [-1])


def test_curves_draw_each_trial_with_a_curve(table: StudyTable) -> None:
    figure = curves.draw(table)
    assert texts(figure) == {"other completed (18)", "stopped early (9)", "diverged (3)", "best (trial 16)"}
    assert len(figure.axes[0].lines) == 18 + 9 + 3 + 1


def test_targets_stand_apart_below_the_sources() -> None:
    known = {"mean": 0.6, "low": 0.5, "high": 0.7, "n": 9, "clusters": 8}
    rows = [
        {"place": place, "number": 10 + place, "oracle_prompt": place == 2, "dataset": name, "role": role, **known}
        for place in (1, 2)
        for name, role in (("hrf", "target"), ("drive", "source"))
    ]
    rows.append(rows[0] | {"place": 3, "number": 13, "low": np.nan, "high": np.nan, "clusters": np.nan})
    figure = targets.draw(pd.DataFrame(rows), "dice")
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert labels == ["drive\n9 images, 8 patients", "hrf\n9 images, 8 patients"]
    assert {"source (test split)", "target (unseen)", "place 3: trial 13"} <= texts(figure)
    assert "place 2: trial 12 †, prompted from ground truth" in texts(figure)
    assert figure.axes[0].get_xlabel() == "test Dice: mean over images, 95 % interval over patients"
    alone = pd.DataFrame([rows[1] | {"low": np.nan, "high": np.nan, "n": 2, "clusters": 1}])
    assert [tick.get_text() for tick in targets.draw(alone, "dice").axes[0].get_yticklabels()] == [
        "drive\n2 images, 1 patient: no interval"
    ]


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
    assert set(style.OUTCOMES) == set(KIND_OF)
    looks = list(style.OUTCOMES.values())
    assert len({(look.marker, look.filled) for look in looks}) == len(looks)


def told(table: StudyTable, *numbers: int) -> StudyTable:
    """The study with the trials of ``numbers`` prompted from the ground truth."""
    flags = table.trials["number"].isin(numbers).astype("boolean")
    return replace(table, trials=table.trials.assign(oracle_prompt=flags))


DRAWN: dict[str, Callable[[StudyTable], Figure]] = {
    "history": history.draw,
    "curves": curves.draw,
    "ternary": simplex.draw,
    "panels": lambda table: simplex.draw(with_components(table, 4)),
    "pareto": lambda table: _pareto(table),
}


def _pareto(table: StudyTable) -> Figure:
    wider = with_size(table, range(1, len(table.trials) + 1))
    return pareto.draw(wider, front(wider))


def with_size(table: StudyTable, parameters: Sequence[int]) -> StudyTable:
    """The study as one after few trainable parameters as well, of which each trial has ``parameters``."""
    trials = table.trials.assign(**{"objective/trainable_parameters": parameters})
    return replace(table, trials=trials, objectives={"val/dice": "maximize", "trainable_parameters": "minimize"})


@pytest.mark.parametrize("name", DRAWN)
def test_scores_prompted_from_the_ground_truth_are_marked(table: StudyTable, name: str) -> None:
    """Completed trials 16, the best, and 3; nothing is said of them where they have no such prompt."""
    marked = {text for text in texts(DRAWN[name](told(table, 16, 3))) if "ground truth" in text}
    assert marked == {"prompted from ground truth (2)"}
    assert not any("ground truth" in text or "†" in text for text in texts(DRAWN[name](told(table))))
    everything = texts(DRAWN[name](told(table, *table.trials["number"])))
    assert name not in ("curves", "ternary") or "best (trial 16) †" in everything


def test_the_line_of_the_best_so_far_leaves_out_the_prompted(table: StudyTable) -> None:
    alone, mixed, all_told = (
        history.draw(told(table, *numbers)) for numbers in ((), (16,), table.trials["number"].tolist())
    )
    without = completed_trials(table.trials).query("number != 16")["value"].max()
    assert mixed.axes[0].lines[0].get_ydata()[-1] == without
    assert "best so far, unprompted" in texts(mixed)
    assert all_told.axes[0].lines[0].get_ydata()[-1] == alone.axes[0].lines[0].get_ydata()[-1]
    assert "best so far" in texts(all_told)


def test_a_front_of_both_kinds_is_that_of_the_unprompted(table: StudyTable) -> None:
    wider = told(with_size(table, [1] * len(table.trials)), 16)
    second = completed_trials(table.trials).query("number != 16").nlargest(1, "value")["number"].tolist()
    assert front(wider)["number"].tolist() == second
    assert front(told(wider, *wider.trials["number"]))["number"].tolist() == [16]


@pytest.mark.parametrize("oracles", [0, 1])
def test_a_cell_of_the_map_with_a_prompted_trial_is_marked(table: StudyTable, oracles: int) -> None:
    choices = {"param/a": CategoricalDistribution(("x", "y")), "param/b": CategoricalDistribution(("u", "v"))}
    rows = [("x", "u", 2, oracles, 0.5, np.nan), ("x", "v", 1, 0, 0.4, np.nan), ("y", "u", 0, 0, np.nan, np.nan)]
    cells = pd.DataFrame([*rows, ("y", "v", 1, 0, 0.3, np.nan)], columns=CROSS_COLUMNS[1:])
    figure = cross.draw(replace(table, distributions=choices), cells)
    said = [text.get_text() for text in figure.axes[0].texts]
    assert said == ["0.500" + " †" * oracles, "0.400", "0.300"]
    assert (figure.get_supxlabel() != "") == bool(oracles)
