"""Optimizers: torch's own, with the settings that were written."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from sam2lora.choice import kinds
from sam2lora.optimizers import SGD, AdamW, Group, Optimizer


def parameter() -> torch.nn.Parameter:
    """A parameter with a gradient."""
    weights = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
    weights.grad = torch.tensor([0.5, 1.0, -3.0])
    return weights


def one_group(weights: torch.nn.Parameter) -> list[Group]:
    return [Group("adapter", {"weights": weights})]


@pytest.mark.parametrize("kind", kinds(Optimizer).values())
def test_a_step_goes_against_the_gradient(kind: type[Optimizer]) -> None:
    weights = parameter()
    before = weights.detach().clone()
    kind().build(one_group(weights)).step()
    assert ((before - weights) * weights.grad > 0).all()


@pytest.mark.parametrize("kind", kinds(Optimizer).values())
def test_nothing_to_train_is_refused(kind: type[Optimizer]) -> None:
    with pytest.raises(ValueError, match="empty parameter list"):
        kind().build([])


@pytest.mark.parametrize("kind", kinds(Optimizer).values())
def test_the_rate_is_the_one_that_was_written(kind: type[Optimizer]) -> None:
    (group,) = kind(lr=0.125).build(one_group(parameter())).param_groups
    assert group["lr"] == 0.125


@pytest.mark.parametrize("kind", kinds(Optimizer).values())
def test_a_group_has_its_share_of_the_rate(kind: type[Optimizer]) -> None:
    groups = [Group("adapter", {"A": parameter()}), Group("decoder", {"bias": parameter()}, lr_scale=10.0)]
    built = kind(lr=0.125).build(groups).param_groups
    assert [group["lr"] for group in built] == [0.125, 1.25]
    assert [group["params"] for group in built] == [list(group.parameters.values()) for group in groups]


def test_adamw_is_torchs() -> None:
    weights = parameter()
    AdamW(lr=0.01, weight_decay=0.1, betas=(0.8, 0.9)).build(one_group(weights)).step()
    shrunk = torch.tensor([1.0, -2.0, 0.5]) * (1 - 0.01 * 0.1)
    signs = torch.tensor([1.0, 1.0, -1.0])  # a first step of Adam has the size of the rate
    torch.testing.assert_close(weights.detach(), shrunk - 0.01 * signs)
    (group,) = AdamW(betas=(0.8, 0.9)).build(one_group(parameter())).param_groups
    assert group["betas"] == (0.8, 0.9)
    assert group["weight_decay"] == 0.01


def test_sgd_is_torchs() -> None:
    weights = parameter()
    optimizer = SGD(lr=0.1, momentum=0.5, weight_decay=0.2).build(one_group(weights))
    optimizer.step()
    first = torch.tensor([0.5, 1.0, -3.0]) + 0.2 * torch.tensor([1.0, -2.0, 0.5])
    torch.testing.assert_close(weights.detach(), torch.tensor([1.0, -2.0, 0.5]) - 0.1 * first)
    (group,) = SGD(nesterov=True, momentum=0.9).build(one_group(parameter())).param_groups
    assert group["nesterov"] is True


def test_nesterov_without_momentum_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValidationError, match="Nesterov needs a momentum"):
        SGD(nesterov=True, momentum=0.0)
    with pytest.raises(ValidationError, match="Nesterov needs a momentum"):
        replace(SGD(nesterov=True), momentum=0.0)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (AdamW, "lr", 0.0),
        (AdamW, "lr", -1e-3),
        (AdamW, "weight_decay", -1.0),
        (AdamW, "betas", (0.9, 1.0)),
        (AdamW, "betas", (0.9,)),
        (SGD, "lr", 0.0),
        (SGD, "momentum", 1.0),
        (SGD, "weight_decay", -1e-9),
    ],
)
def test_settings_out_of_range_are_refused(kind: type[Optimizer], field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        kind(**{field: value})
