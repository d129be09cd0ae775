"""Every loss against an independent implementation, in float64, image by image."""

from __future__ import annotations

import monai.losses
import pytest
import segmentation_models_pytorch.losses as smp
import torch
from monai.losses.cldice import soft_skel
from monai.losses.focal_loss import sigmoid_focal_loss
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from sam2lora.losses import BCE, Boundary, ClDice, Focal, FocalTversky, SoftDice
from sam2lora.losses.boundary import difference_over_union
from sam2lora.losses.cldice import soft_skeleton

SMOOTH = [1e-3, 1.0, 7.5]


@pytest.fixture(params=range(4))
def batch(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    """Logits of spread 4 and masks of 2, 20 and 70 percent, (3, 1, 20, 24) in float64."""
    generator = torch.Generator().manual_seed(request.param)
    logits = 4 * torch.randn(3, 1, 20, 24, generator=generator, dtype=torch.float64)
    share = torch.tensor([0.02, 0.2, 0.7]).view(3, 1, 1, 1)
    target = (torch.rand(3, 1, 20, 24, generator=generator) < share).double()
    assert target.sum((1, 2, 3)).min() > 0
    return logits, target


def assert_equal(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == (3,)
    torch.testing.assert_close(ours, theirs.reshape(3), rtol=0, atol=1e-9)


def image_by_image(loss: torch.nn.Module, logits: Tensor, target: Tensor) -> Tensor:
    """What a loss that sums over the whole batch gives for each image alone."""
    return torch.stack([loss(z[None], y[None]) for z, y in zip(logits, target, strict=True)])


@pytest.mark.parametrize("pos_weight", [0.3, 1.0, 5.0])
def test_bce_is_torchs(batch: tuple[Tensor, Tensor], pos_weight: float) -> None:
    pixels = binary_cross_entropy_with_logits(
        *batch, reduction="none", pos_weight=torch.tensor(pos_weight, dtype=torch.float64)
    )
    assert_equal(BCE(pos_weight=pos_weight)(*batch), pixels.mean((1, 2, 3)))


@pytest.mark.parametrize("smooth", SMOOTH)
def test_soft_dice_is_monais_and_smps(batch: tuple[Tensor, Tensor], smooth: float) -> None:
    ours = SoftDice(smooth=smooth)(*batch)
    monais = monai.losses.DiceLoss(sigmoid=True, smooth_nr=smooth, smooth_dr=smooth, reduction="none")
    assert_equal(ours, monais(*batch))
    # smp writes Dice as a Tversky index of whole true positives, so that a pixel of smoothing counts double.
    assert_equal(ours, image_by_image(smp.DiceLoss("binary", smooth=smooth / 2), *batch))


@pytest.mark.parametrize("smooth", SMOOTH)
@pytest.mark.parametrize(("alpha", "gamma"), [(0.7, 0.75), (0.3, 0.75), (0.5, 1.0), (0.9, 2.0)])
def test_focal_tversky_is_smps_with_alpha_and_beta_swapped(
    batch: tuple[Tensor, Tensor], alpha: float, gamma: float, smooth: float
) -> None:
    theirs = smp.TverskyLoss("binary", alpha=1 - alpha, beta=alpha, gamma=gamma, smooth=smooth)
    assert_equal(FocalTversky(alpha=alpha, gamma=gamma, smooth=smooth)(*batch), image_by_image(theirs, *batch))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_focal_tversky_without_focus_is_monais_tversky(batch: tuple[Tensor, Tensor], alpha: float) -> None:
    theirs = monai.losses.TverskyLoss(
        sigmoid=True, alpha=1 - alpha, beta=alpha, smooth_nr=1.0, smooth_dr=1.0, reduction="none"
    )
    assert_equal(FocalTversky(alpha=alpha, gamma=1.0)(*batch), theirs(*batch))


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.8, 0.5), (0.5, 0.0), (1.0, 1.0)])
def test_focal_is_monais_and_smps(batch: tuple[Tensor, Tensor], alpha: float, gamma: float) -> None:
    ours = Focal(alpha=alpha, gamma=gamma)(*batch)
    assert_equal(ours, sigmoid_focal_loss(*batch, gamma=gamma, alpha=alpha).mean((1, 2, 3)))  # FocalLoss is float32
    assert_equal(ours, image_by_image(smp.FocalLoss("binary", alpha=alpha, gamma=gamma), *batch))


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_soft_skeleton_is_monais(batch: tuple[Tensor, Tensor], iterations: int) -> None:
    for image in (batch[0].sigmoid(), batch[1]):
        torch.testing.assert_close(soft_skeleton(image, iterations), soft_skel(image, iterations), rtol=0, atol=1e-12)


@pytest.mark.parametrize("smooth", SMOOTH)
def test_cldice_is_the_papers_formula_on_monais_skeletons(batch: tuple[Tensor, Tensor], smooth: float) -> None:
    logits, target = batch
    p = logits.sigmoid()
    values = []
    for i in range(3):
        of_p, of_y = soft_skel(p[i : i + 1], 3)[0], soft_skel(target[i : i + 1], 3)[0]
        precision = ((of_p * target[i]).sum() + smooth) / (of_p.sum() + smooth)
        sensitivity = ((of_y * p[i]).sum() + smooth) / (of_y.sum() + smooth)
        values.append(1 - 2 / (1 / precision + 1 / sensitivity))
    assert_equal(ClDice(iterations=3, smooth=smooth)(logits, target), torch.stack(values))


@pytest.mark.parametrize("smooth", SMOOTH)
def test_boundary_without_interior_is_monais_squared_dice(batch: tuple[Tensor, Tensor], smooth: float) -> None:
    theirs = monai.losses.DiceLoss(
        sigmoid=True, squared_pred=True, smooth_nr=smooth, smooth_dr=smooth, reduction="none"
    )
    assert_equal(difference_over_union(batch[0].sigmoid(), batch[1], -1.0, smooth), theirs(*batch))


@pytest.mark.parametrize("smooth", SMOOTH)
def test_boundary_with_no_discount_is_monais_tanimoto(batch: tuple[Tensor, Tensor], smooth: float) -> None:
    theirs = monai.losses.DiceLoss(  # which doubles intersection and union, but not the smoothing
        sigmoid=True, squared_pred=True, jaccard=True, smooth_nr=2 * smooth, smooth_dr=2 * smooth, reduction="none"
    )
    assert_equal(difference_over_union(batch[0].sigmoid(), batch[1], 0.0, smooth), theirs(*batch))


def test_boundary_of_scattered_pixels_is_squared_dice() -> None:
    """No pixel of the mask is inside it, so nothing is discounted."""
    target = torch.zeros(3, 1, 20, 24, dtype=torch.float64)
    target[..., ::3, ::4] = 1
    logits = torch.randn(3, 1, 20, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs = monai.losses.DiceLoss(sigmoid=True, squared_pred=True, smooth_nr=1.0, smooth_dr=1.0, reduction="none")
    assert_equal(Boundary()(logits, target), theirs(logits, target))
