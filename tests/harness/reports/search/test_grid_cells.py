"""A grid search's report names the combinations without a result."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from harness.execution import runner
from harness.record.grid_cells import GridCells, grid_cells
from harness.record.trials import RecordedTrial
from harness.reports.search import overview
from harness.samplers import Grid

SPACE = {
    "a": optuna.distributions.CategoricalDistribution(("x", "y")),
    "b": optuna.distributions.IntDistribution(1, 3),
}


def test_crashed_combinations_are_named_and_others_counted() -> None:
    study = optuna.create_study(sampler=Grid().build(0, SPACE))

    def asked() -> optuna.Trial:
        trial = study.ask()
        trial.suggest_categorical("a", ("x", "y"))
        trial.suggest_int("b", 1, 3)
        return trial

    for _ in range(3):
        study.tell(asked(), 0.5)
    lost = asked()
    lost.set_user_attr("outcome", {"kind": "crashed", "epoch": 1, "why": "a bug"})
    study.tell(lost, state=TrialState.FAIL)
    grid = grid_cells([RecordedTrial.of(trial) for trial in study.trials])
    assert grid == GridCells(6, 3, (lost.params,))
    assert grid.waiting == 2
    study.tell(asked(), 0.5)
    again = grid_cells([RecordedTrial.of(trial) for trial in study.trials])
    assert again == GridCells(6, 4, ()), "the crashed combination was asked for again"
    assert grid_cells([RecordedTrial(0, TrialState.COMPLETE)]) is None


def test_the_report_says_which_and_how_to_ask_for_them_again() -> None:
    table = SimpleNamespace(
        grid=GridCells(6, 3, ({"a": "x", "b": 2},)),
        provenance={"command": "python -m harness.search grid --sampler grid"},
    )
    findings = SimpleNamespace(table=table)
    text, shown, _, command = overview._missing(findings)
    assert text.text == "**3 of the 6 combinations of the grid have no result**: 1 crashed and 2 not run to the end."
    assert [[cell.text for cell in row] for row in shown.rows] == [["x", "2"]]
    assert command.text == "python -m harness.search grid --sampler grid"
    table.grid = replace(table.grid, ended=6, failed=())
    assert overview._missing(findings) == ()


def test_a_report_that_fails_ends_the_run_of_its_study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    closed: list[object] = []
    tracker = SimpleNamespace(wait=lambda: "", close=closed.append)
    plan = SimpleNamespace(
        tracking=SimpleNamespace(open=lambda *_: tracker), storage="", study="study", out=tmp_path, folder=tmp_path
    )
    record = SimpleNamespace(trials=list, write=lambda **_: None, objectives=("val/dice",))
    study = SimpleNamespace(record=record, question={"epochs": 1}, prepared=SimpleNamespace(materials=()))

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(runner.table, "read", lambda *_: None)
    with pytest.raises(ZeroDivisionError):
        runner.carry_out(plan, study, [], broken, Console(quiet=True))
    assert closed == [None]
