"""Several objectives and constraints: what a search refuses, what a front is, and what samplers make of both."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from pydantic import ValidationError

from harness.constraints import TrainableShare
from harness.errors import OtherQuestion
from harness.experiments.search import Search
from harness.record import optuna_writer
from harness.record.objectives import DIRECTIONS, WORST, Objective, front, values, worst
from harness.record.outcome import Completed, Diverged, Infeasible, OutOfMemory
from harness.record.study import Record, open_record
from harness.record.trials import standing_by_key
from harness.samplers import CMAES, NSGA2, TPE, Sampler
from harness.schedulers import ASHA, Full
from sam2lora.adapters import LoRA, share
from sam2lora.backbones import Nano, Sam2
from sam2lora.choice import from_json, kinds, to_json
from sam2lora.config import TrialConfig

from ..conftest import QUESTION

PARETO: tuple[Objective, ...] = ("val/dice", "trainable_parameters")
WAYS = [DIRECTIONS[name] for name in PARETO]
COST = {"trainable_parameters": 1000, "train_seconds": 2.5}


def space(trial: optuna.Trial) -> TrialConfig:
    raise NotImplementedError


def completed(score: float) -> Completed:
    return Completed(3, score, {}, {}, {}, {})


@pytest.fixture
def several(tmp_path: Path) -> Record:
    """A study after Dice and few parameters."""
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    sampler = optuna.samplers.RandomSampler(seed=0)
    return open_record(url, "pareto", tmp_path, QUESTION, sampler, objectives=PARETO)


def begun(record: Record, key: str, excess: dict[str, float] | None = None) -> optuna.Trial:
    trial = record.study.ask()
    trial.suggest_float("x", 0.0, 1.0)
    optuna_writer.begin(trial, key, "{}", "{}", excess, oracle_prompt=False)
    return trial


def test_every_objective_has_a_direction_and_a_worst_value() -> None:
    assert set(get_args(Objective)) == set(DIRECTIONS) == set(WORST)
    for name, way in DIRECTIONS.items():
        assert WORST[name] == (0.0 if way == "maximize" else math.inf)
    assert values(("val/dice", "train_seconds"), 0.7, COST) == [0.7, 2.5]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_front_is_optunas(dimensions: int) -> None:
    points = np.random.default_rng(dimensions).integers(0, 6, size=(60, dimensions)).astype(float)  # with ties
    ways = ["maximize", "minimize", "minimize"][:dimensions]
    study = optuna.create_study(directions=ways)
    study.add_trials([optuna.trial.create_trial(values=point.tolist()) for point in points])
    expected = {trial.number for trial in study.best_trials}
    assert {index for index, on in enumerate(front(points.tolist(), ways)) if on} == expected
    assert front([], ways) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"scheduler": ASHA()},
            "must train every trial to its end, but the scheduler asha stops some",
        ),
        ({"sampler": CMAES()}, "cmaes has one: use --sampler tpe"),
        ({"objectives": ("train_seconds", "val/dice")}, "begin with val/dice"),
        ({"objectives": ()}, "begin with val/dice"),
        ({"objectives": ("val/dice", "train_seconds", "train_seconds")}, "distinct"),
        ({"constraints": (TrainableShare(below=0.1), TrainableShare(below=0.2))}, "given once"),
    ],
)
def test_a_search_that_cannot_be_is_refused(wrong: dict[str, Any], said: str) -> None:
    search = Search(space, trials=3, scheduler=Full(), objectives=PARETO)
    with pytest.raises(ValueError, match=said):
        replace(search, **wrong)


@pytest.mark.parametrize("kind", kinds(Sampler))
def test_a_search_refuses_exactly_the_samplers_that_know_one_objective(kind: str, tmp_path: Path) -> None:
    """Every other one lives with completed, diverged, infeasible and oversized trials of two objectives."""
    choice = kinds(Sampler)[kind]()
    spread = {"x": optuna.distributions.FloatDistribution(0, 1), "n": optuna.distributions.IntDistribution(1, 4)}
    study = optuna.create_study(directions=WAYS, sampler=choice.build(0, spread))
    record = Record(study, "", tmp_path, PARETO)

    count = 26 if isinstance(choice, NSGA2) else 14  # past the random start; a Gaussian process takes a second a draw

    def ask_and_tell() -> None:
        for number in range(count):
            trial = study.ask()
            x, n = trial.suggest_float("x", 0, 1), trial.suggest_int("n", 1, 4)
            optuna_writer.begin(trial, str(number), "{}", "{}", {"trainable_share": x - 0.5}, oracle_prompt=False)
            endings = (completed(x), completed(x), Diverged(1, "nan"), OutOfMemory(1, "no room"))
            outcome = endings[number % 4] if x <= 0.5 else Infeasible(0, "too many")
            optuna_writer.tell(record, trial, outcome, [], {"trainable_parameters": n})

    if isinstance(choice, CMAES):
        with pytest.raises(ValueError, match="multi-objective"):
            ask_and_tell()
        return
    ask_and_tell()
    assert all(trial.state.is_finished() for trial in study.trials)


@pytest.mark.parametrize("sampler", [TPE(), NSGA2(population=8)], ids=lambda sampler: sampler.kind)
def test_constraints_teach_the_sampler(sampler: Sampler, tmp_path: Path) -> None:
    """Four fifths of the space are infeasible: what is proposed late is feasible more often than that."""
    study = optuna.create_study(directions=WAYS, sampler=sampler.build(1, {}))
    record = Record(study, "", tmp_path, PARETO)
    for number in range(60):
        trial = study.ask()
        x = trial.suggest_float("x", 0.0, 1.0)
        trial.suggest_float("y", 0.0, 1.0)
        optuna_writer.begin(trial, str(number), "{}", "{}", {"trainable_share": x - 0.2}, oracle_prompt=False)
        outcome = completed(x) if x <= 0.2 else Infeasible(0, "too many")
        optuna_writer.tell(record, trial, outcome, [], {"trainable_parameters": 1 + x})
    late = [trial.params["x"] <= 0.2 for trial in study.trials[30:]]
    assert sum(late) > 0.4 * len(late)


def test_what_a_study_of_two_objectives_is_told(several: Record) -> None:
    trial = begun(several, "a")
    optuna_writer.report(trial, 1, 0.5)  # Optuna has no place for it; the curve has
    optuna_writer.tell(several, trial, completed(0.7), [{"epoch": 1, "score": 0.5}], COST)
    optuna_writer.tell(several, begun(several, "b"), Diverged(2, "nan"), [], COST)
    optuna_writer.tell(several, begun(several, "c", {"trainable_share": 0.1}), Infeasible(0, "too many"), [], {})
    optuna_writer.tell(several, begun(several, "d"), OutOfMemory(1, "no room"), [], {})
    told = several.study.trials
    assert [t.values for t in told] == [[0.7, 1000.0], [0.0, math.inf], [0.0, math.inf], None]
    assert worst(PARETO) == told[1].values
    assert [t.state for t in told] == [TrialState.COMPLETE] * 3 + [TrialState.PRUNED]
    assert [t.constraints for t in told] == [{}, {}, {"trainable_share": 0.1}, {"memory": 1.0}]
    assert [t.number for t in several.study.best_trials] == [0]


def test_a_reused_trial_has_the_values_of_its_twin(several: Record) -> None:
    optuna_writer.tell(several, begun(several, "a", {"trainable_share": -0.1}), completed(0.7), [], COST)
    again = begun(several, "a", {"trainable_share": -0.1})
    optuna_writer.reuse(several, again, standing_by_key(several.trials())["a"])
    told = several.trial(1)
    assert told.values == (0.7, 1000.0)
    assert told.cost == {}
    assert told.constraints == {"trainable_share": -0.1}


def test_other_objectives_are_another_question(several: Record) -> None:
    asked = {**QUESTION, "objectives": ["val/dice"], "constraints": [{"kind": "trainable_share", "below": 0.05}]}
    with pytest.raises(OtherQuestion, match=r"constraints\.0\.below: recorded nothing; now 0\.05") as refusal:
        open_record(several.storage_url, "pareto", several.out, asked, optuna.samplers.RandomSampler())
    assert "objectives: recorded nothing; now val/dice" in str(refusal.value)


class TestTrainableShare:
    def test_the_paper_keeps_its_five_percent_at_two_of_its_ranks(self, tiny: TrialConfig) -> None:
        """Known from the published count: 120,208 parameters a unit of rank, 224.4 M in all."""
        met = []
        for rank in (32, 64, 128, 256, 512, 1024):
            config = replace(tiny, backbone=Sam2(size="large"), adapters=(LoRA(rank=rank, alpha=2.0 * rank),))
            excess = TrainableShare(below=0.05).excess(config)
            assert excess == pytest.approx(120_208 * rank / 224.4e6 - 0.05, rel=0.01, abs=1e-4)
            met += [rank] if excess <= 0 else []
        assert met == [32, 64]

    def test_below_is_meant_strictly(self, tiny: TrialConfig) -> None:
        exact = share(tiny.parts, Nano(weights="random"))
        assert TrainableShare(below=exact).excess(tiny) > 0
        assert TrainableShare(below=math.nextafter(exact, 1)).excess(tiny) <= 0
        assert TrainableShare(below=exact).found(tiny) == f"{exact:.3%}"

    @pytest.mark.parametrize("below", [0.0, -0.1, 1.5, math.nan])
    def test_a_share_is_a_share(self, below: float) -> None:
        with pytest.raises(ValidationError):
            TrainableShare(below=below)

    def test_it_survives_its_json(self) -> None:
        constraint = TrainableShare(below=0.1)
        assert from_json(TrainableShare, to_json(constraint)) == constraint
