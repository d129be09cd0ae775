from __future__ import annotations

import numpy as np
import optuna
import pytest
from scipy.stats import kstest

from harness.experiments.simplex import suggest_simplex
from sam2lora.losses import BCE, ClDice, FocalTversky, Loss, SoftDice

THREE: dict[str, Loss] = {"bce": BCE(), "soft_dice": SoftDice(), "focal_tversky": FocalTversky()}


def draws(losses: dict[str, Loss], count: int, absent: float) -> tuple[np.ndarray, list[dict[str, float]]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    weights, asked = [], []
    for _ in range(count):
        trial = study.ask()
        loss = suggest_simplex(trial, losses, absent)
        weights.append([loss.weights.get(name, 0.0) for name in losses])
        asked.append(trial.params)
    return np.array(weights), asked


@pytest.mark.parametrize("absent", [0.0, 0.15, 0.4])
@pytest.mark.parametrize("losses", [dict(list(THREE.items())[:2]), THREE, {**THREE, "cldice": ClDice()}])
def test_weights_are_a_point_of_the_simplex_in_one_dimension_less(losses: dict[str, Loss], absent: float) -> None:
    weights, asked = draws(losses, 200, absent)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-12)
    assert {name for params in asked for name in params} == {f"simplex/{name}" for name in list(losses)[:-1]}


def test_without_absence_the_draws_are_uniform_on_the_simplex() -> None:
    weights, _ = draws(THREE, 3000, 0.0)
    for component in weights.T:  # the marginal of a uniform point of a triangle is Beta(1, 2)
        assert kstest(component, lambda x: 1 - (1 - x) ** 2).pvalue > 0.01


def test_a_component_is_exactly_absent_with_the_probability_that_was_asked_for() -> None:
    weights, _ = draws(THREE, 4000, 0.2)
    assert np.mean(weights[:, 0] == 0) == pytest.approx(0.2, abs=0.02)
    assert np.mean(weights[:, 0] == 1) == pytest.approx(0.2 / 3, abs=0.015)
    seen = {tuple(row > 0) for row in weights}
    assert len(seen) == 7, "every face, edge and corner of the triangle must be reachable"


def test_nothing_is_asked_when_nothing_is_left() -> None:
    trial = optuna.trial.FixedTrial({"simplex/bce": 1.01})
    assert suggest_simplex(trial, THREE).weights == {"bce": 1.0}  # type: ignore[arg-type]


def test_what_cannot_be_a_simplex_is_refused() -> None:
    trial = optuna.trial.FixedTrial({})
    with pytest.raises(ValueError, match="two or more losses"):
        suggest_simplex(trial, {"bce": BCE()})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"below 0\.5, but is 0\.5"):
        suggest_simplex(trial, THREE, absent=0.5)  # type: ignore[arg-type]
