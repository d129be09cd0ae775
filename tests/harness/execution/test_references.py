"""What a search has to beat: trained once each, beside the search, seen by nobody who steers it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from harness.constraints import TrainableShare
from harness.execution import probe
from harness.execution.references import missing, references
from harness.execution.searcher import Searcher
from harness.execution.sources import Probe, Sampled
from harness.experiments.overrides import Overrides
from harness.experiments.search import Search
from harness.record.outcome import Completed
from harness.record.study import Record
from harness.record.trials import standing_by_key
from sam2lora.adapters import Full
from sam2lora.backbones import UNet
from sam2lora.config import Replicate, TrialConfig
from sam2lora.defaults import BASE
from sam2lora.overrides import with_backbone
from sam2lora.runtime import Runtime


def search(tiny: TrialConfig, **settings: object) -> Search:
    return replace(Search(lambda trial: tiny, trials=2), **settings)  # type: ignore[arg-type]


def test_the_defaults_are_the_searchs_base_on_the_data_that_is_asked_for(tiny: TrialConfig) -> None:
    found = references(search(tiny), Overrides(), tiny)
    assert list(found) == ["defaults", "frozen"]
    assert (found["defaults"].protocol, found["defaults"].epochs) == (tiny.protocol, tiny.epochs)
    assert (found["defaults"].adapters[0], found["defaults"].optimizer) == (BASE.adapters[0], BASE.optimizer)
    assert found["frozen"].adapters == ()
    own = references(search(tiny, base=replace(tiny, clip_norm=0.5)), Overrides(epochs=9), tiny)
    assert (own["defaults"].clip_norm, own["defaults"].epochs) == (0.5, 9)
    assert references(search(tiny, references=False), Overrides(), tiny) == {}


def test_a_unet_has_no_frozen_model(tiny: TrialConfig) -> None:
    found = references(search(tiny), Overrides(), with_backbone(tiny, UNet(checkpoint=None)))
    assert list(found) == ["defaults"]
    assert isinstance(found["defaults"].adapters[0], Full)


def asking(record: Record, tiny: TrialConfig) -> tuple[Searcher, Searcher]:
    """A search whose constraint the defaults miss, and its references."""
    wanted = {
        "defaults": replace(tiny, adapters=(replace(tiny.adapters[0], rank=9),)),
        "frozen": replace(tiny, clip_norm=0.5),
    }

    def propose(trial: optuna.Trial) -> tuple[TrialConfig, Replicate]:
        if (name := trial.user_attrs.get("reference")) is not None:
            return wanted[name], Replicate()
        return replace(tiny, adapters=(replace(tiny.adapters[0], rank=trial.suggest_int("rank", 1, 4)),)), Replicate()

    known = standing_by_key(record.trials())
    ask = Searcher(Sampled(probe.unaware(record), 2), propose, known, {}, Runtime())
    source = Probe(probe.blind(record, 0), 2, {}, missing(record, wanted))
    return ask, Searcher(source, propose, known, {}, Runtime(), (TrainableShare(below=1e-9),))


def train(ask: Searcher) -> int:
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
    apart = [trial for trial in record.trials() if trial.reference is not None]
    assert [trial.reference for trial in apart] == ["defaults", "frozen"]
    assert {trial.state for trial in apart} == {TrialState.COMPLETE}
    assert all(not trial.sampled and not trial.probe for trial in apart)
    ask, beside = asking(record, tiny)
    assert (ask.wanted, ask.source.ended, beside.wanted, beside.source.ended) == (0, 2, 0, 2)


def test_one_that_was_left_open_goes_on(record: Record, tiny: TrialConfig) -> None:
    _, beside = asking(record, tiny)
    order = beside.suggest("a")
    ask, beside = asking(record, tiny)
    train(ask)
    assert beside.wanted == 2
    assert train(beside) == 2
    apart = [trial for trial in record.trials() if trial.reference is not None]
    assert len(apart) == 2
    assert apart[0].key == order["key"]  # type: ignore[index]


def test_one_whose_settings_were_proposed_and_infeasible_is_trained(record: Record, tiny: TrialConfig) -> None:
    """No constraint binds a reference, nor does what a constraint did to the same settings in an earlier run."""
    alike = {"defaults": tiny}

    def propose(trial: optuna.Trial) -> tuple[TrialConfig, Replicate]:
        return tiny, Replicate()

    bound = (TrainableShare(below=1e-9),)
    known = standing_by_key(record.trials())
    searcher = Searcher(Sampled(record, 1, limit=1), propose, known, {}, Runtime(), bound)
    assert searcher.suggest("a") == Searcher.FINISHED
    assert record.trial(0).outcome == "infeasible"
    source = Probe(probe.blind(record, 0), 1, {}, missing(record, alike))
    assert train(Searcher(source, propose, known, {}, Runtime(), bound)) == 1
    assert record.trial(1).outcome == "completed"


@pytest.mark.parametrize("score", [-100.0, 100.0])
def test_no_sampler_sees_them(score: float) -> None:
    def proposals(mark: dict[str, str] | None) -> list[float]:
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1, n_startup_trials=3))
        sampled = probe.unaware(Record(study, "", Path())).study
        for number in range(8):
            if mark and number == 4:
                study.add_trial(optuna.trial.create_trial(value=score, user_attrs=mark))
            trial = sampled.ask()
            sampled.tell(trial, trial.suggest_float("x", 0.0, 1.0))
        return [trial.params["x"] for trial in sampled.trials]

    assert proposals({"reference": "defaults"}) == proposals(None)
