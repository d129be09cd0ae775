"""The live table marks what was prompted from the ground truth, and does not let it lead."""

from __future__ import annotations

import io

from optuna.trial import FrozenTrial, TrialState, create_trial
from rich.console import Console

from harness.progress import LiveTable


def ended(number: int, score: float, *, oracle: bool) -> FrozenTrial:
    outcome = {"kind": "completed", "epoch": 1, "why": ""}
    trial = create_trial(
        state=TrialState.COMPLETE,
        value=score,
        user_attrs={"oracle_prompt": oracle, "outcome": outcome, "curve": [{"epoch": 1, "score": score}]},
    )
    trial.number = number
    return trial


def begun(number: int) -> FrozenTrial:
    trial = create_trial(state=TrialState.RUNNING, user_attrs={"oracle_prompt": False})
    trial.number = number
    return trial


def text(live: LiveTable) -> str:
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(live)
    return console.export_text()


def test_a_prompted_score_is_marked_and_leads_only_while_it_is_alone() -> None:
    live = LiveTable(Console(file=io.StringIO()), trials=4, epochs=1)
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
    live = LiveTable(Console(file=io.StringIO()), trials=300, epochs=1)
    for number in range(200):
        live.ended(ended(number, 0.5, oracle=False))
    assert len(text(live).splitlines()) == 12 + 3  # a header, a line of counts, a bar
    for number in range(200, 216):
        live.began(begun(number))
    assert len(text(live).splitlines()) == 16 + 3, "whatever runs is shown"


def test_without_prompts_nothing_is_marked() -> None:
    live = LiveTable(Console(file=io.StringIO()), trials=1, epochs=1)
    live.ended(ended(0, 0.9, oracle=False))
    assert "†" not in text(live)
