"""What holds for every loss of the family, and what each of them is for."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sam2lora.choice import kinds
from sam2lora.losses import BCE, Boundary, ClDice, Focal, FocalTversky, Loss, SoftDice
from sam2lora.losses.boundary import difference_over_union, discount
from sam2lora.losses.cldice import soft_skeleton

LOSSES = [kind() for kind in kinds(Loss).values()] + [
    FocalTversky(alpha=0.3, gamma=0.1),
    FocalTversky(gamma=2.0),
    Focal(gamma=0.5),
    BCE(pos_weight=4.0),
]
REGIONAL = (SoftDice, FocalTversky, ClDice, Boundary)

every_loss = pytest.mark.parametrize("loss", LOSSES, ids=repr)


def drawing(*rows: str) -> Tensor:
    """A mask (1, 1, H, W) in float64, ``#`` set."""
    return torch.tensor([[[[float(pixel == "#") for pixel in row] for row in rows]]], dtype=torch.float64)


def sure(mask: Tensor, logit: float = 20.0) -> Tensor:
    """The logits of a prediction that is certain of ``mask``."""
    return (2 * mask - 1) * logit


def random_batch(n: int = 4, side: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, 1, side, side, generator=generator, dtype=torch.float64)
    return logits, (torch.rand(n, 1, side, side, generator=generator) < 0.3).double()


@every_loss
def test_a_perfect_prediction_costs_nothing(loss: Loss) -> None:
    _, target = random_batch()
    values = loss(sure(target), target)
    assert values.shape == (4,)
    assert (values >= 0).all()
    limit = 1e-3 if getattr(loss, "gamma", 1.0) >= 0.5 else 0.2  # an exponent of 0.1 lifts any rest: 2e-9 ** 0.1 = 0.13
    assert (values < limit).all()


@every_loss
def test_values_belong_to_their_image(loss: Loss) -> None:
    logits, target = random_batch()
    order = torch.tensor([2, 0, 3, 1])
    values = loss(logits, target)
    assert len(set(values.tolist())) == 4
    assert torch.equal(loss(logits[order], target[order]), values[order])
    alone = torch.cat([loss(logits[i : i + 1], target[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(alone, values, rtol=0, atol=1e-14)


@every_loss
def test_gradient_is_the_derivative(loss: Loss) -> None:
    logits, target = random_batch(n=2, side=6)
    assert torch.autograd.gradcheck(lambda z: loss(z, target), logits.requires_grad_())


@every_loss
def test_descent_lowers_the_loss(loss: Loss) -> None:
    logits, target = random_batch()
    before = loss(logits.requires_grad_(), target)
    (slope,) = torch.autograd.grad(before.sum(), logits)
    after = loss(logits - 0.01 * slope / slope.abs().max(), target)
    assert (after < before).all()


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("certain", [0.0, 1.0, 20.0, 100.0])
def test_values_and_gradients_stay_finite(loss: Loss, dtype: torch.dtype, certain: float) -> None:
    _, random = random_batch(n=1)
    masks = {"random": random, "empty": 0 * random, "full": 0 * random + 1}
    for truth in masks.values():
        for guess in [*masks.values(), 1 - random]:
            logits = sure(guess, certain).to(dtype).requires_grad_()
            value = loss(logits, truth.float())
            (slope,) = torch.autograd.grad(value.sum(), logits)
            assert value.dtype == torch.float32
            assert value.isfinite().all()
            assert slope.isfinite().all()


@every_loss
def test_half_precision_logits_lose_nothing_more(loss: Loss) -> None:
    logits, target = random_batch()
    short = logits.bfloat16()
    assert torch.equal(loss(short, target.float()), loss(short.float(), target.float()))


@every_loss
def test_shapes_that_would_broadcast_are_refused(loss: Loss) -> None:
    logits, target = random_batch()
    for wrong in (target[:, 0], target[:1], target[..., :1], target.expand(4, 2, 16, 16)):
        with pytest.raises(ValueError, match=r"\(N, 1, H, W\)"):
            loss(logits, wrong)
    with pytest.raises(ValueError, match=r"\(N, 1, H, W\)"):
        loss(logits[:, 0], target[:, 0])


@every_loss
def test_nothing_predicted_where_nothing_is_costs_nothing(loss: Loss) -> None:
    empty = torch.zeros(1, 1, 16, 16)
    assert loss(sure(empty, 200.0), empty).item() == 0
    assert loss(sure(empty + 1, 200.0), empty + 1).item() == 0


@pytest.mark.parametrize(
    ("loss", "nothing_found", "all_wrong"),
    [  # 256 pixels at logit 100: full mask and empty prediction, empty mask and full prediction
        (BCE(), 100, 100),
        (BCE(pos_weight=2.0), 200, 100),
        (Focal(), 25, 75),
        (SoftDice(smooth=4.0), 256 / 260, 256 / 260),
        (FocalTversky(smooth=4.0, gamma=1.0), 179.2 / 183.2, 76.8 / 80.8),
        (FocalTversky(smooth=4.0), (179.2 / 183.2) ** 0.75, (76.8 / 80.8) ** 0.75),
        (Boundary(smooth=4.0), 256 / 260, 256 / 260),
        (ClDice(), 0, 0),  # a full image has no skeleton to miss
    ],
)
def test_the_worst_prediction(loss: Loss, nothing_found: float, all_wrong: float) -> None:
    empty, full = torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16)
    assert loss(sure(empty, 100.0), full).item() == pytest.approx(nothing_found, rel=1e-6)
    assert loss(sure(full, 100.0), empty).item() == pytest.approx(all_wrong, rel=1e-6)


@pytest.mark.parametrize("kind", REGIONAL)
def test_regional_losses_stay_within_one(kind: type[Loss]) -> None:
    for seed in range(20):
        logits, target = random_batch(seed=seed)
        values = kind()(8 * logits, target)
        assert (values > 0).all()
        assert (values < 1).all()


def test_focal_tversky_of_equal_weights_is_soft_dice() -> None:
    logits, target = random_batch(seed=3)
    for smooth in (0.25, 1.0, 8.0):
        left = FocalTversky(alpha=0.5, gamma=1.0, smooth=smooth)(logits, target)
        assert torch.equal(left, SoftDice(smooth=2 * smooth)(logits, target))


def test_alpha_weighs_missed_pixels_against_false_ones() -> None:
    target = drawing("....", ".##.", ".##.", "....")
    missed, false = sure(0 * target), sure(0 * target + 1)
    costs = [
        [FocalTversky(alpha=alpha)(guess, target).item() for alpha in (0.1, 0.3, 0.7, 0.9)] for guess in (missed, false)
    ]
    assert costs[0] == sorted(costs[0])
    assert costs[1] == sorted(costs[1], reverse=True)
    assert costs[0][0] < costs[0][-1]
    assert costs[1][0] > costs[1][-1]


def test_focal_tversky_has_no_slope_at_perfection() -> None:
    """``x ** 0.75`` has slope infinity at 0; times a vanished sigmoid slope that would be NaN."""
    _, target = random_batch(n=1)
    logits = sure(target.float(), 150.0).requires_grad_()
    value = FocalTversky()(logits, target.float())
    (slope,) = torch.autograd.grad(value.sum(), logits)
    assert value.item() == 0
    assert torch.equal(slope, torch.zeros_like(slope))


def test_focal_without_focus_is_half_the_cross_entropy() -> None:
    logits, target = random_batch()
    torch.testing.assert_close(Focal(alpha=0.5, gamma=0.0)(logits, target), BCE()(logits, target) / 2)


def test_cross_entropy_keeps_its_gradient_however_wrong() -> None:
    logits = torch.full((1, 1, 2, 2), -1000.0, requires_grad=True)
    value = BCE()(logits, torch.ones(1, 1, 2, 2))
    (slope,) = torch.autograd.grad(value.sum(), logits)
    assert value.item() == 1000
    assert slope.flatten().tolist() == [-0.25] * 4


def test_a_thin_line_is_its_own_skeleton() -> None:
    line = drawing("......", ".####.", ".....#", ".....#", ".....#", ".....#", "......")
    assert torch.equal(soft_skeleton(line, 4), line)


def test_the_skeleton_of_a_band_is_its_middle() -> None:
    band = torch.zeros(1, 1, 9, 20, dtype=torch.float64)
    band[..., 2:7, :] = 1
    middle = torch.zeros_like(band)
    middle[..., 4, :] = 1
    for iterations in (2, 5):
        assert torch.equal(soft_skeleton(band, iterations), middle)
        assert torch.equal(soft_skeleton(band.mT, iterations), middle.mT)
    assert soft_skeleton(band, 1).sum() == 0  # too few iterations to reach it


def test_cldice_of_disjoint_lines_is_one() -> None:
    upper = drawing("########", "........", "........", "........")
    lower = upper.flip(2)
    assert ClDice(smooth=1e-6)(sure(upper), upper).item() < 1e-6
    assert ClDice(smooth=1e-6)(sure(lower), upper).item() > 0.99


def test_cldice_hardly_sees_a_uniform_thickening() -> None:
    vessel, thicker = torch.zeros(1, 1, 16, 40), torch.zeros(1, 1, 16, 40)
    vessel[..., 7:10, 2:-2] = 1
    thicker[..., 6:11, 1:-1] = 1
    assert ClDice()(sure(thicker), vessel).item() < 0.1
    assert SoftDice()(sure(thicker), vessel).item() > 0.25


def test_cldice_minds_a_broken_bridge_more_than_a_ragged_border() -> None:
    whole = drawing(
        "............",
        ".####...####",
        ".####...####",
        ".###########",
        ".####...####",
        ".####...####",
        "............",
    )
    broken, ragged = whole.clone(), whole.clone()
    broken[..., 3, 5:8] = 0
    ragged[..., 1, 1:4] = 0
    cost = {name: ClDice()(sure(guess), whole).item() for name, guess in (("broken", broken), ("ragged", ragged))}
    assert cost["broken"] > 2 * cost["ragged"]
    assert SoftDice()(sure(broken), whole).item() == pytest.approx(SoftDice()(sure(ragged), whole).item())


@pytest.mark.parametrize(("side", "a"), [(1, -1.0), (2, -1.0), (4, 1 - 2 * 12 / 16), (10, 1 - 2 * 36 / 100), (60, 0.8)])
def test_the_discount_of_a_square_counts_its_outline(side: int, a: float) -> None:
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 2 : 2 + side, 1 : 1 + side] = 1
    assert discount(mask).item() == pytest.approx(a)


def test_the_discount_takes_the_outside_for_background_and_needs_no_mask() -> None:
    assert discount(torch.ones(1, 1, 10, 10)).item() == pytest.approx(1 - 2 * 36 / 100)
    assert discount(torch.zeros(1, 1, 10, 10)).item() == pytest.approx(0.8)


def test_a_discount_makes_an_equal_difference_dearer() -> None:
    logits, target = random_batch()
    costs = [difference_over_union(logits.sigmoid(), target, a, 1.0) for a in (-1.0, 0.0, 0.5, 0.8)]
    assert all((low < high).all() for low, high in pairwise(costs))
