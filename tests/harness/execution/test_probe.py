"""The probe of a search: where its points lie, who never sees them, and that each is trained once, to its end."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from scipy.stats import qmc

from harness.execution import probe as probing
from harness.execution.searcher import Searcher
from harness.execution.sources import Probe, Sampled
from harness.experiments.space import distributions
from harness.record.outcome import Completed, Crashed, Outcome, Stopped
from harness.record.study import Record
from harness.record.trials import RecordedTrial, standing_by_key
from harness.samplers import QMC, Sampler
from sam2lora.choice import kinds
from sam2lora.config import Replicate, TrialConfig
from sam2lora.runtime import Runtime

SAMPLERS = kinds(Sampler)


def space(trial: optuna.Trial) -> float:
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    rank = trial.suggest_int("rank", 2, 64, log=True)
    place = trial.suggest_categorical("place", ("encoder", "decoder"))
    depth = trial.suggest_float("depth", 0.0, 1.0) if place == "encoder" else 0.0
    return -abs(math.log10(lr) + 2) + depth + rank / 100


class TestPoints:
    def test_a_longer_probe_begins_with_the_shorter_one(self) -> None:
        asked = distributions(space)
        assert probing.points(asked, 0, 9)[:4] == probing.points(asked, 0, 4)
        assert probing.points(asked, 1, 4) != probing.points(asked, 0, 4)
        assert probing.points(asked, 0, 0) == []

    def test_every_point_has_every_parameter_inside_its_range(self) -> None:
        asked = distributions(space)
        for point in probing.points(asked, 0, 16):
            assert set(point) == set(asked)
            assert all(spread._contains(spread.to_internal_repr(point[name])) for name, spread in asked.items())

    def test_they_fill_the_space_more_evenly_than_random_ones(self) -> None:
        asked = {name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in "abc"}
        drawn = np.array([[point[name] for name in "abc"] for point in probing.points(asked, 0, 32)])
        random = [qmc.discrepancy(np.random.default_rng(seed).random((32, 3))) for seed in range(20)]
        assert qmc.discrepancy(drawn) < min(random)

    def test_they_are_not_what_a_search_by_qmc_asks_for(self) -> None:
        asked = distributions(space)
        study = optuna.create_study(sampler=QMC().build(0, asked))
        own = [study.ask(asked).params["lr"] for _ in range(12)]
        assert not set(own) & {point["lr"] for point in probing.points(asked, 0, 12)}


def proposals(kind: str, probe: int, seed: int, score: float) -> list[dict[str, Any]]:
    """What a sampler proposes after and between twice ``probe`` trials of a probe, drawn by ``seed``."""
    study = optuna.create_study(direction="maximize", sampler=SAMPLERS[kind]().build(3, distributions(space)))
    sampled = probing.unaware(Record(study, "", Path())).study
    other = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for number in range(13):
        for _ in range(probe if number in (0, 11) else 0):
            drawn = other.ask(distributions(space))
            study.add_trial(
                optuna.trial.create_trial(
                    value=score,
                    params=drawn.params,
                    distributions=drawn.distributions,
                    user_attrs={"probe": True, "point": 0},
                )
            )
        trial = sampled.ask()
        sampled.tell(trial, space(trial))
    return [trial.params for trial in sampled.trials]


@pytest.mark.parametrize("kind", SAMPLERS)
def test_no_sampler_learns_from_a_probe(kind: str) -> None:
    splendid = proposals(kind, 3, seed=1, score=100.0)
    assert splendid == proposals(kind, 3, seed=2, score=-100.0)
    if kind not in ("cmaes", "grid"):  # what they propose depends on the number of the trial, too
        assert splendid == proposals(kind, 0, seed=1, score=0.0)


RANKS = (1, 2, 3, 4)


def asking(record: Record, tiny: TrialConfig, trials: int, probe: int) -> tuple[Searcher, Searcher]:
    """A search over four ranks, and its probe."""

    def propose(trial: optuna.Trial) -> tuple[TrialConfig, Replicate]:
        rank = trial.suggest_categorical("rank", RANKS)
        return replace(tiny, adapters=(replace(tiny.adapters[0], rank=rank),)), Replicate()

    spread = {"rank": optuna.distributions.CategoricalDistribution(RANKS)}
    wanted = probing.missing(record, probing.points(spread, 0, probe))
    known = standing_by_key(record.trials())
    search = Searcher(Sampled(probing.unaware(record), trials), propose, known, {}, Runtime())
    return search, Searcher(Probe(probing.blind(record, 0), probe, wanted), propose, known, {}, Runtime())


def score(rank: int) -> Completed:
    return Completed(3, rank / 10, {}, {}, {}, {})


def train(ask: Searcher, ending: Outcome | None = None) -> list[int]:
    """Train all that is asked for, one after the other; the ranks that were trained."""
    trained = []
    while isinstance(order := ask.suggest("a"), dict):
        rank = int(ask.open["a"].trial.params["rank"])
        trained.append(rank)
        done = ending or score(rank)
        ask.open["a"].curve += [{"epoch": epoch, "score": 0.1} for epoch in range(1, done.epoch + 1)]
        ask.close("a", done)
        assert order["key"]
    return trained


def probes(record: Record) -> list[RecordedTrial]:
    return [trial for trial in record.trials() if trial.probe]


class TestTrials:
    def test_the_probe_counts_apart_and_trains_nothing_twice(self, record: Record, tiny: TrialConfig) -> None:
        search, beside = asking(record, tiny, 3, 12)
        trained = train(search)
        again = train(beside)
        assert len(set(trained + again)) == len(trained + again), "no settings are trained twice"
        assert sorted({trial.params["rank"] for trial in probes(record)}) == sorted(RANKS)
        assert (len(record.trials()), len(probes(record))) == (15, 12)
        search, beside = asking(record, tiny, 3, 12)
        assert (search.wanted, search.source.ended, beside.wanted, beside.source.ended) == (0, 3, 0, 12)
        search, beside = asking(record, tiny, 3, 14)
        assert (search.wanted, beside.wanted) == (0, 2)

    def test_what_a_scheduler_stopped_is_trained_to_its_end_once(self, record: Record, tiny: TrialConfig) -> None:
        search, beside = asking(record, tiny, 12, 6)
        assert set(train(search, Stopped(1, 0.1))) == set(RANKS)
        again = train(beside)
        assert again
        assert len(set(again)) == len(again)
        assert {trial.state for trial in probes(record)} == {TrialState.COMPLETE}
        _, larger = asking(record, tiny, 12, 12)
        assert not set(train(larger)) & set(again), "the ending that stands is the trained one"

    def test_a_killed_run_goes_on_with_the_point_that_it_left(self, record: Record, tiny: TrialConfig) -> None:
        _, beside = asking(record, tiny, 1, 3)
        order = beside.suggest("a")
        record.study.enqueue_trial({"rank": 1}, user_attrs={"probe": True, "point": 1})  # the driver dies here
        search, beside = asking(record, tiny, 1, 3)
        assert train(search), "the probe's trial is not the search's"
        assert not [trial for trial in record.trials() if trial.state == TrialState.WAITING]
        assert beside.wanted == 3
        train(beside)
        ended = [trial for trial in probes(record) if trial.state == TrialState.COMPLETE]
        assert sorted(trial.point for trial in ended) == [0, 1, 2]
        assert ended[0].key == order["key"]  # type: ignore[index]

    def test_a_point_that_crashed_is_tried_again_by_the_next_run(self, record: Record, tiny: TrialConfig) -> None:
        _, beside = asking(record, tiny, 1, 2)
        first = train(beside, Crashed(0, "bad luck"))
        assert beside.wanted == 0
        _, beside = asking(record, tiny, 1, 2)
        assert set(train(beside)) == set(first)
