from __future__ import annotations

import math
from typing import Any, get_args

import optuna
import pytest
from optuna.trial import TrialState

from harness.experiments.space import distributions
from harness.samplers import Grid, Sampler
from sam2lora.choice import from_json, kinds, to_json

SAMPLERS = kinds(Sampler)


def space(trial: optuna.Trial) -> Any:
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    rank = trial.suggest_int("rank", 2, 64, log=True)
    place = trial.suggest_categorical("place", ("encoder", "decoder"))
    depth = trial.suggest_float("depth", 0.0, 1.0) if place == "encoder" else 0.0
    return lr, rank, place, depth


def ask_and_tell(kind: str, seed: int, count: int) -> list[dict[str, Any]]:
    sampler = SAMPLERS[kind]().build(seed, distributions(space))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for number in range(count):
        trial = study.ask()
        lr, *_ = space(trial)
        match number % 5:
            case 1:
                trial.report(0.3, 1)
                study.tell(trial, state=TrialState.PRUNED)
            case 2:
                trial.set_constraint("memory", 1.0)
                study.tell(trial, state=TrialState.PRUNED)
            case 3:
                study.tell(trial, state=TrialState.FAIL)
            case _:
                study.tell(trial, -abs(math.log10(lr) + 2))
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_sampler_survives_every_outcome_and_follows_its_seed(kind: str) -> None:
    first = ask_and_tell(kind, 3, 24)
    assert ask_and_tell(kind, 3, 24) == first
    assert ask_and_tell(kind, 4, 24) != first


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_sampler_is_a_value(kind: str) -> None:
    sampler = SAMPLERS[kind]()
    assert from_json(type(sampler), to_json(sampler)) == sampler
    assert SAMPLERS[kind] in get_args(get_args(Sampler)[0])


def test_the_grid_takes_every_combination_once_and_knows_how_many_there_are() -> None:
    grid = Grid(levels=3)
    asked = distributions(space)
    limit = grid.limit(asked)
    assert limit == 3 * 3 * 2 * 3
    study = optuna.create_study(sampler=grid.build(0, asked))
    for _ in range(limit):
        trial = study.ask()
        space(trial)
        study.tell(trial, 0.0)
    cells = [(t.params["lr"], t.params["rank"], t.params["place"], t.params.get("depth")) for t in study.trials]
    assert len(set(cells)) == 3 * 3 * (3 + 1), "where depth is not in force its levels are the same cell"
    values = grid.values(asked)
    assert values["lr"] == pytest.approx([1e-4, math.sqrt(1e-5), 1e-1])
    assert values["rank"] == [2, 11, 64]
    assert values["place"] == ["encoder", "decoder"]


def test_every_cell_of_a_grid_ends_though_some_crash_and_others_are_given() -> None:
    grid, asked = Grid(levels=3), distributions(space)
    limit = grid.limit(asked)
    assert limit is not None
    storage, crashes, running = optuna.storages.InMemoryStorage(), {3, 11, 12, 19, 30, 44, limit}, []
    for first, last in ((0, 20), (20, limit + len(crashes))):
        sampler = grid.build(0, asked)
        study = optuna.create_study(storage=storage, study_name="s", sampler=sampler, load_if_exists=True)
        study.enqueue_trial({"lr": 1e-3, "rank": 2, "place": "decoder"})  # it takes a number, and no cell
        space(study.ask())
        for number in range(first, last):
            space(trial := study.ask())
            if number in (15, 40):
                running.append(trial)
            elif number in crashes:
                study.tell(trial, state=TrialState.FAIL)
            else:
                study.tell(trial, 0.5)
    for trial in running:
        study.tell(trial, 0.5)
    ended = study.get_trials(states=(TrialState.COMPLETE,))
    assert sorted(trial.system_attrs["grid_id"] for trial in ended) == list(range(limit))


def in_two_runs(kind: str, first: int, second: int) -> list[dict[str, Any]]:
    """Ask in a study whose driver is replaced after ``first`` trials."""
    storage = optuna.storages.InMemoryStorage()
    for begun, count in ((0, first), (first, second)):
        sampler = SAMPLERS[kind]().build(3, distributions(space), begun)
        study = optuna.create_study(storage=storage, study_name="s", sampler=sampler, load_if_exists=True)
        for _ in range(count):
            trial = study.ask()
            space(trial)
            study.tell(trial, 0.5)
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_resumed_sampler_does_not_repeat_its_draws(kind: str) -> None:
    asked = in_two_runs(kind, 5, 5)
    assert asked[:5] != asked[5:]
    assert asked[:5] == ask_and_tell_plain(kind, 5)


@pytest.mark.parametrize("kind", ["grid", "qmc"])
def test_a_sequence_goes_on_where_it_was(kind: str) -> None:
    limit = SAMPLERS[kind]().limit(distributions(space)) or 16
    once = ask_and_tell_plain(kind, limit)
    numeric = [{name: value for name, value in params.items() if name in ("lr", "rank")} for params in once]
    resumed = [{name: params[name] for name in ("lr", "rank")} for params in in_two_runs(kind, 7, limit - 7)]
    assert sorted(map(str, resumed)) == sorted(map(str, numeric))


def ask_and_tell_plain(kind: str, count: int) -> list[dict[str, Any]]:
    return in_two_runs(kind, count, 0)
