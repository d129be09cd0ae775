"""The live table marks what was prompted from the ground truth, and does not let it lead."""

from __future__ import annotations

import io
from typing import Any

from optuna.trial import TrialState
from rich.console import Console

from harness.execution.progress import LiveTable
from harness.record.outcome import KIND_OF
from harness.record.trials import RecordedTrial


def ended(number: int, score: float, *, oracle: bool = False, kind: str = "completed", **more: Any) -> RecordedTrial:
    return RecordedTrial(
        number=number,
        state=TrialState[KIND_OF[kind].state],
        values=(score,),
        oracle_prompt=oracle,
        outcome=kind,
        epoch=1,
        curve=[{"epoch": 1, "score": score}],
        **more,
    )


def begun(number: int) -> RecordedTrial:
    return RecordedTrial(number=number, state=TrialState.RUNNING, oracle_prompt=False)


def text(live: LiveTable) -> str:
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(live)
    return console.export_text()


def test_a_prompted_score_is_marked_and_leads_only_while_it_is_alone() -> None:
    live = LiveTable(Console(file=io.StringIO()), trials=lambda: 4, epochs=1)
    live.ended(ended(0, 0.9, oracle=True))
    assert "best 0.9000 † (trial 0)" in text(live)
    live.ended(ended(1, 0.4, oracle=False))
    live.ended(ended(2, 0.95, oracle=True))
    shown = text(live)
    assert "best 0.4000 (trial 1)" in shown
    assert "0.9500 †" in shown
    assert "† prompted from ground truth" in shown
    live.ended(ended(3, 0.5, oracle=False))
    assert "best 0.5000 (trial 3)" in text(live)


def test_it_stays_short_however_many_trials_run() -> None:
    live = LiveTable(Console(file=io.StringIO()), trials=lambda: 300, epochs=1)
    for number in range(200):
        live.ended(ended(number, 0.5, oracle=False))
    assert len(text(live).splitlines()) == 12 + 3  # a header, a line of counts, a bar
    for number in range(200, 216):
        live.began(begun(number))
    assert len(text(live).splitlines()) == 16 + 3, "whatever runs is shown"


def test_without_prompts_nothing_is_marked() -> None:
    live = LiveTable(Console(file=io.StringIO()), trials=lambda: 1, epochs=1)
    live.ended(ended(0, 0.9, oracle=False))
    assert "†" not in text(live)


def test_a_log_gets_a_line_for_the_first_trial_and_one_for_each_that_ends() -> None:
    log = io.StringIO()
    with LiveTable(Console(file=log, width=40), trials=lambda: 30, epochs=6, before=1) as live:
        live.began(begun(1))
        live.began(begun(2))
        live.advanced(begun(1), {"epoch": 1, "score": 0.3})
        live.ended(ended(1, 0.366))
        live.ended(ended(3, 0.1, kind="infeasible"))
        live.ended(ended(2, 0.2, kind="stopped"))
        live.ended(ended(4, 0.2, kind="crashed"))
    lines = log.getvalue().splitlines()
    assert [line.partition(", about")[0] for line in lines] == [
        "1 of 30: trial 1 starts",
        "2 of 30: trial 1 completed at 1/6, best 0.3660 (trial 1)",
        "3 of 30: trial 2 stopped at 1/6, best 0.3660 (trial 1)",
        "3 of 30: trial 4 crashed at 1/6, best 0.3660 (trial 1)",
    ]
    assert all(line.endswith(" left") for line in lines[1:]), "how long it will take"


def test_a_terminal_gets_the_table_alone() -> None:
    screen = io.StringIO()
    live = LiveTable(Console(file=screen, force_terminal=True), trials=lambda: 1, epochs=1)
    live.began(begun(0))
    live.ended(ended(0, 0.9))
    assert screen.getvalue() == ""


def test_a_resumed_study_begins_with_its_best_and_its_counts() -> None:
    reference = ended(3, 0.99, reference="defaults")
    past = [ended(0, 0.5), ended(1, 0.7), ended(2, 0.6, kind="stopped"), reference, begun(4)]
    live = LiveTable(Console(file=io.StringIO()), trials=lambda: 9, epochs=1, before=4, past=past)
    shown = text(live)
    assert "4 of 9 trials, 3 completed, 1 stopped, best 0.7000 (trial 1)" in shown
    assert "left" not in shown, "nothing has ended in this run"
    live.ended(ended(5, 0.8))
    assert "5 of 9 trials, 4 completed, 1 stopped, best 0.8000 (trial 5)" in text(live)


def test_the_frozen_model_ends_after_the_epochs_that_it_has() -> None:
    frozen = ended(0, 0.2, reference="frozen", config='{"epochs": 1}')
    live = LiveTable(Console(file=io.StringIO()), trials=lambda: 2, epochs=6)
    live.ended(frozen)
    live.ended(ended(1, 0.5))
    assert [line.split()[-2] for line in text(live).splitlines()[1:3]] == ["1/1", "1/6"]


def test_two_long_names_stay_two() -> None:
    live = LiveTable(Console(file=io.StringIO()), trials=lambda: 2, epochs=1)
    for number, end in enumerate(("left", "right")):
        live.ended(ended(number, 0.5, params={"arm": "a" * 90 + end, "seed": 0}))
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(live)
    shown = "".join(console.export_text().split())
    assert "left" in shown
    assert "right" in shown
