"""The convex combination of losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from sam2lora.choice import digest, from_json, to_json
from sam2lora.losses import BCE, Boundary, ClDice, FocalTversky, SoftDice
from sam2lora.weighted_loss import Term, WeightedLoss, equal, weighted


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 1, 12, 12, generator=generator, dtype=torch.float64)
    return logits, (torch.rand(3, 1, 12, 12, generator=generator) < 0.3).double()


def test_total_is_the_weighted_sum_of_unweighted_parts(batch: tuple[Tensor, Tensor]) -> None:
    loss = weighted({BCE(): 0.5, SoftDice(): 0.3, FocalTversky(): 0.2})
    total, parts = loss(*batch)
    assert list(parts) == ["bce", "soft_dice", "focal_tversky"]
    assert torch.equal(parts["soft_dice"], SoftDice()(*batch))
    torch.testing.assert_close(total, 0.5 * parts["bce"] + 0.3 * parts["soft_dice"] + 0.2 * parts["focal_tversky"])


@pytest.mark.parametrize("alone", [BCE(), SoftDice(smooth=3.0), FocalTversky(), ClDice(), Boundary()], ids=repr)
def test_a_single_term_is_its_loss(alone: BCE, batch: tuple[Tensor, Tensor]) -> None:
    total, parts = equal(alone)(*batch)
    assert torch.equal(total, alone(*batch))
    assert torch.equal(parts[alone.kind], total)


def test_only_the_total_is_differentiated(batch: tuple[Tensor, Tensor]) -> None:
    logits, target = batch
    total, parts = equal(BCE(), SoftDice())(logits.requires_grad_(), target)
    assert total.requires_grad
    assert not any(part.requires_grad for part in parts.values())
    (mixed,) = torch.autograd.grad(total.sum(), logits)
    slopes = [torch.autograd.grad(loss(logits, target).sum(), logits)[0] for loss in (BCE(), SoftDice())]
    torch.testing.assert_close(mixed, (slopes[0] + slopes[1]) / 2)


def test_a_weight_of_zero_costs_no_compute(batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: ClDice, logits: Tensor, target: Tensor) -> Tensor:
        raise AssertionError("this loss must not run")

    monkeypatch.setattr(ClDice, "__call__", refuse)
    total, parts = weighted({BCE(): 1.0, ClDice(): 0.0})(*batch)
    assert list(parts) == ["bce"]
    assert torch.equal(total, BCE()(*batch))
    with pytest.raises(AssertionError, match="must not run"):
        weighted({BCE(): 0.5, ClDice(): 0.5})(*batch)


def test_an_absent_loss_leaves_no_trace_in_the_settings() -> None:
    assert weighted({BCE(): 1.0, SoftDice(): 0.0}) == equal(BCE())
    assert digest(weighted({BCE(): 1.0, SoftDice(): -0.0})) == digest(equal(BCE()))


def test_pairs_and_mappings_are_alike() -> None:
    weights = {BCE(): 0.25, SoftDice(): 0.75}
    assert weighted(weights) == weighted(list(weights.items()))


def test_equal_weights_of_many_terms_pass_their_own_check() -> None:
    losses = [FocalTversky(alpha=i / 49) for i in range(49)]  # 49 * (1 / 49) is not 1 in floating point
    assert sum(term.weight for term in equal(*losses).terms) == pytest.approx(1)


def test_losses_of_one_kind_are_told_apart(batch: tuple[Tensor, Tensor]) -> None:
    loss = weighted({FocalTversky(alpha=0.7): 0.6, BCE(): 0.1, FocalTversky(alpha=0.2): 0.3})
    assert loss.names == ("focal_tversky", "bce", "focal_tversky_2")
    assert loss.weights == {"focal_tversky": 0.6, "bce": 0.1, "focal_tversky_2": 0.3}
    assert torch.equal(loss(*batch)[1]["focal_tversky_2"], FocalTversky(alpha=0.2)(*batch))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: weighted({BCE(): 0.5, SoftDice(): 0.4}), r"must sum to 1, but sum to 0\.9"),
        (lambda: weighted({BCE(): 0.5, SoftDice(): 0.50001}), r"must sum to 1, but sum to 1\.00001"),
        (lambda: weighted([(BCE(), 0.5), (BCE(), 0.5)]), "stands twice"),
        (lambda: weighted([(BCE(), 0.5), (BCE(pos_weight=1.0), 0.5)]), "stands twice"),
        (lambda: weighted({BCE(): 1.5, SoftDice(): -0.5}), "less than or equal to|greater than 0"),
        (lambda: weighted({BCE(): float("nan"), SoftDice(): 1.0}), "finite number"),
        (lambda: weighted({BCE(): 0.0}), "at least 1 item"),
        (lambda: weighted({}), "at least 1 item"),
        (lambda: Term(loss=BCE(), weight=0.0), "greater than 0"),
        (lambda: Term(loss="bce", weight=1.0), "valid dictionary or object"),
        (lambda: replace(equal(BCE(), SoftDice()), terms=(Term(loss=BCE(), weight=0.5),)), "must sum to 1"),
    ],
)
def test_weights_off_the_simplex_are_refused(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        wrong()


def test_a_rounded_sum_is_accepted() -> None:
    assert weighted({BCE(): 0.3333333, SoftDice(): 0.6666666}).weights == {"bce": 0.3333333, "soft_dice": 0.6666666}


def test_json_is_the_documented_shape() -> None:
    loss = weighted({BCE(): 0.5, SoftDice(): 0.5})
    text = (
        '{"terms":[{"loss":{"kind":"bce","pos_weight":1.0},"weight":0.5},'
        '{"loss":{"kind":"soft_dice","smooth":1.0},"weight":0.5}]}'
    )
    assert to_json(loss) == text
    assert from_json(WeightedLoss, text) == loss
