"""Schedules against those of torch, and what holds for each of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pydantic import ValidationError
from torch.optim import lr_scheduler as oracle

from sam2lora.choice import from_json, kinds, to_json
from sam2lora.schedules import Constant, Cosine, CosineRestarts, Polynomial, Schedule, Step

SCHEDULES = [kind() for kind in kinds(Schedule).values()] + [
    Constant(warmup=0.3),
    Cosine(warmup=0.25, floor=0.1),
    CosineRestarts(period=7, floor=0.2),
    CosineRestarts(period=0.01),
    Polynomial(power=2.0, warmup=0.5),
    Polynomial(power=1.0, warmup=0.99),
    Step(every=3, gamma=0.5),
    Step(every=0.5, gamma=1.0),
]
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)


def torchs(build: Callable[[torch.optim.Optimizer], oracle.LRScheduler], total: int) -> list[float]:
    """The rates of a scheduler of torch over ``total`` steps from rate 1, and the one after them."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, rates = build(optimizer), []
    for _ in range(total + 1):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return rates


def factors(schedule: Schedule, total: int) -> list[float]:
    return [schedule.factor(step, total) for step in range(total + 1)]


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_cosine_is_torchs(floor: float) -> None:
    rates = torchs(lambda optimizer: oracle.CosineAnnealingLR(optimizer, T_max=23, eta_min=floor), 23)
    assert factors(Cosine(floor=floor), 23) == pytest.approx(rates, abs=1e-12)


@pytest.mark.parametrize(("period", "steps"), [(5, 5), (0.25, 6), (1, 1), (100, 100)])
def test_cosine_restarts_is_torchs(period: int | float, steps: int) -> None:
    rates = torchs(lambda optimizer: oracle.CosineAnnealingWarmRestarts(optimizer, T_0=steps, eta_min=0.05), 23)
    assert factors(CosineRestarts(period=period, floor=0.05), 23) == pytest.approx(rates, abs=1e-12)


@pytest.mark.parametrize("power", [0.9, 1.0, 2.0])
def test_polynomial_is_torchs(power: float) -> None:
    rates = torchs(lambda optimizer: oracle.PolynomialLR(optimizer, total_iters=23, power=power), 23)
    assert factors(Polynomial(power=power), 23) == pytest.approx(rates, abs=1e-12)


@pytest.mark.parametrize(("every", "steps"), [(4, 4), (0.5, 12), (1, 1)])
def test_step_is_torchs(every: int | float, steps: int) -> None:
    rates = torchs(lambda optimizer: oracle.StepLR(optimizer, step_size=steps, gamma=0.2), 23)
    assert factors(Step(every=every, gamma=0.2), 23) == pytest.approx(rates, abs=1e-12)


def test_warmup_is_torchs_linear_one() -> None:
    rates = torchs(lambda optimizer: oracle.LinearLR(optimizer, start_factor=1 / 5, total_iters=4), 20)
    assert factors(Constant(warmup=0.25), 20) == pytest.approx(rates, abs=1e-12)


@pytest.mark.parametrize("kind", [Constant, Cosine, Polynomial])
def test_warmup_ends_at_one_and_the_rest_is_the_schedule_alone(kind: type[Cosine]) -> None:
    values = factors(kind(warmup=0.2), 50)
    assert values[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert values[10:] == pytest.approx(factors(kind(), 40))
    assert values[9] == values[10] == 1


@every_schedule
@pytest.mark.parametrize("total", [1, 2, 3, 10, 97])
def test_factors_lie_between_zero_and_one(schedule: Schedule, total: int) -> None:
    values = factors(schedule, total)
    assert all(isinstance(value, float) and 0 <= value <= 1 for value in values)
    assert all(value > 0 for value in values[:-1])  # no update is wasted on a rate of 0


@every_schedule
def test_a_single_step_is_taken_at_full_rate(schedule: Schedule) -> None:
    assert schedule.factor(0, 1) == 1


@every_schedule
def test_factors_depend_on_step_and_total_alone(schedule: Schedule) -> None:
    forwards = factors(schedule, 30)
    backwards = [schedule.factor(step, 30) for step in reversed(range(31))]
    assert forwards == backwards[::-1]


@every_schedule
@pytest.mark.parametrize(("step", "total"), [(0, 0), (-1, 10), (11, 10), (0, -1)])
def test_steps_outside_the_run_are_refused(schedule: Schedule, step: int, total: int) -> None:
    with pytest.raises(ValueError, match=f"step is {step} and total {total}"):
        schedule.factor(step, total)


def test_a_floor_of_one_is_constant() -> None:
    assert factors(Cosine(floor=1.0), 9) == [1.0] * 10


def test_a_count_and_a_share_survive_json() -> None:
    for period in (1, 1000, 0.5):
        read = from_json(CosineRestarts, to_json(CosineRestarts(period=period)))
        assert read.period == period
        assert type(read.period) is type(period)


@pytest.mark.parametrize("period", [0, -1, 0.0, 1.0, 2.5, True, "1"])
def test_a_span_is_a_positive_count_or_a_share_below_one(period: object) -> None:
    with pytest.raises(ValidationError):
        CosineRestarts(period=period)  # type: ignore[arg-type]
    with pytest.raises(ValidationError):
        Step(every=period)  # type: ignore[arg-type]


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_a_warmup_is_a_share_below_one(warmup: float) -> None:
    with pytest.raises(ValidationError, match="warmup"):
        Cosine(warmup=warmup)
