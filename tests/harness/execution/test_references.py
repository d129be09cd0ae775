"""What a search has to beat: trained once each, beside the search, seen by nobody who steers it."""

from __future__ import annotations

from dataclasses import replace

import optuna
import pytest
from optuna.trial import TrialState

from harness.constraints import TrainableShare
from harness.execution import probe
from harness.execution.references import missing, references
from harness.execution.searcher import Suggest
from harness.experiments.search import Overrides, Search
from harness.record import study as recorded
from harness.record.outcome import Completed
from harness.record.study import Record
from sam2lora.adapters import Frozen, Full
from sam2lora.backbones import UNet
from sam2lora.base import BASE
from sam2lora.commands.asked import on
from sam2lora.config import Replicate, TrialConfig
from sam2lora.runtime import Runtime


def search(tiny: TrialConfig, **settings: object) -> Search:
    return replace(Search(lambda trial: tiny, trials=2), **settings)  # type: ignore[arg-type]


def test_the_defaults_are_the_searchs_base_on_the_data_that_is_asked_for(tiny: TrialConfig) -> None:
    found = references(search(tiny), Overrides(), tiny)
    assert list(found) == ["defaults", "frozen"]
    assert (found["defaults"].protocol, found["defaults"].epochs) == (tiny.protocol, tiny.epochs)
    assert (found["defaults"].adapter, found["defaults"].optimizer) == (BASE.adapter, BASE.optimizer)
    assert isinstance(found["frozen"].adapter, Frozen)
    own = references(search(tiny, base=replace(tiny, clip_norm=0.5)), Overrides(epochs=9), tiny)
    assert (own["defaults"].clip_norm, own["defaults"].epochs) == (0.5, 9)
    assert references(search(tiny, references=False), Overrides(), tiny) == {}


def test_a_unet_has_no_frozen_model(tiny: TrialConfig) -> None:
    found = references(search(tiny), Overrides(), on(tiny, UNet(checkpoint=None)))
    assert list(found) == ["defaults"]
    assert isinstance(found["defaults"].adapter, Full)


def asking(record: Record, tiny: TrialConfig) -> tuple[Suggest, Suggest]:
    """A search whose constraint the defaults miss, and its references."""
    wanted = {"defaults": replace(tiny, adapter=replace(tiny.adapter, rank=9)), "frozen": replace(tiny, clip_norm=0.5)}

    def propose(trial: optuna.Trial) -> tuple[TrialConfig, Replicate]:
        if (name := trial.user_attrs.get("reference")) is not None:
            return wanted[name], Replicate()
        return replace(tiny, adapter=replace(tiny.adapter, rank=trial.suggest_int("rank", 1, 4))), Replicate()

    ask = Suggest(record, propose, {}, Runtime(), 2)
    beside = Suggest(
        probe.book(record, 0),
        propose,
        {},
        Runtime(),
        2,
        constraints=(TrainableShare(below=1e-9),),
        points={},
        references=missing(record, wanted),
    )
    beside.endings = ask.endings
    return ask, beside


def train(ask: Suggest) -> int:
    count = 0
    while isinstance(ask.suggest("a"), dict):
        ask.open["a"].curve += [{"epoch": 1, "score": 0.1}]
        ask.close("a", Completed(1, 0.9, {}, {}, {}, {}))
        count += 1
    return count


def test_they_count_apart_are_trained_once_and_no_constraint_refuses_them(record: Record, tiny: TrialConfig) -> None:
    ask, beside = asking(record, tiny)
    assert (ask.wanted, beside.wanted) == (2, 2)
    train(ask)
    assert train(beside) == 2
    apart = [trial for trial in record.trials() if recorded.is_reference(trial)]
    assert [trial.user_attrs["reference"] for trial in apart] == ["defaults", "frozen"]
    assert {trial.state for trial in apart} == {TrialState.COMPLETE}
    assert all(recorded.is_beside(trial) and not recorded.is_probe(trial) for trial in apart)
    ask, beside = asking(record, tiny)
    assert (ask.wanted, ask.ended, beside.wanted, beside.ended) == (0, 2, 0, 2)


def test_one_that_was_left_open_goes_on(record: Record, tiny: TrialConfig) -> None:
    _, beside = asking(record, tiny)
    order = beside.suggest("a")
    ask, beside = asking(record, tiny)
    train(ask)
    assert beside.wanted == 2
    assert train(beside) == 2
    apart = [trial for trial in record.trials() if recorded.is_reference(trial)]
    assert len(apart) == 2
    assert apart[0].user_attrs["key"] == order["key"]  # type: ignore[index]


@pytest.mark.parametrize("score", [-100.0, 100.0])
def test_no_sampler_sees_them(score: float) -> None:
    def proposals(mark: dict[str, str] | None) -> list[float]:
        study = optuna.create_study(sampler=probe.Unaware(optuna.samplers.TPESampler(seed=1, n_startup_trials=3)))
        for number in range(8):
            if mark and number == 4:
                study.add_trial(optuna.trial.create_trial(value=score, user_attrs=mark))
            trial = study.ask()
            study.tell(trial, trial.suggest_float("x", 0.0, 1.0))
        return [trial.params["x"] for trial in study.trials if trial.params]

    assert proposals({"reference": "defaults"}) == proposals(None)
