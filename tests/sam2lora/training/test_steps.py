"""Steps of the loop: batches that accumulate, and the term of the quality head."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import jaccard_score

from sam2lora.adapters import Full, LoRA
from sam2lora.auxiliary import IoUError
from sam2lora.backbones import Nano, UNet
from sam2lora.config import Replicate, TrialConfig, steps_per_epoch
from sam2lora.losses import BCE, SoftDice
from sam2lora.losses.counts import thresholded_iou
from sam2lora.models.build import build
from sam2lora.models.segmenter import Batch, Prediction
from sam2lora.optimizers import SGD
from sam2lora.runtime import Runtime
from sam2lora.schedules import Step
from sam2lora.training.batches import batches
from sam2lora.training.loop import Output, Seen, SingleForward, epoch, lockstep
from sam2lora.training.objective import Objective, objective, terms_of
from sam2lora.training.session import Session, pristine, start
from sam2lora.weighted_loss import weighted


@pytest.fixture
def runtime(runtime: Runtime) -> Iterator[Runtime]:
    """The sessions of a process share the frozen weights: they are single again after a test in double."""
    yield runtime
    pristine(Nano(weights="random"), 64, runtime).float()


def trained(config: TrialConfig, runtime: Runtime) -> list[torch.Tensor]:
    """The adapter after one epoch in float64: what two ways of summing differ by is rounding and nothing else."""
    session = start(config, Replicate(), runtime)
    session.segmenter.double().sam.sam_prompt_encoder.pe_layer.float()  # it makes coordinates in single itself
    epoch(session)
    return [parameter.detach().clone() for parameter in session.segmenter.parameters() if parameter.requires_grad]


@pytest.mark.parametrize(("batch", "accumulate"), [(1, 4), (2, 2)])
@pytest.mark.parametrize("clip", [None, 0.01])
def test_accumulated_batches_are_one_large_batch(
    tiny: TrialConfig, runtime: Runtime, batch: int, accumulate: int, clip: float | None
) -> None:
    """10 training images: two whole steps of 4 and an incomplete one of 2."""
    config = replace(tiny, clip_norm=clip, auxiliary=(IoUError(weight=0.1),))
    whole = trained(replace(config, batch_size=4), runtime)
    parts = trained(replace(config, batch_size=batch, accumulate=accumulate), runtime)
    for one, other in zip(parts, whole, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)
    assert max(tensor.abs().max() for tensor in whole[1::2]) > 0, "B has left zero"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_gradient_is_clipped_in_its_own_units(tiny: TrialConfig, runtime: Runtime, precision: str) -> None:
    """One step of SGD at rate 1 moves all parameters together by the limit, whatever the precision."""
    config = replace(tiny, clip_norm=1e-3, batch_size=10, precision=precision, optimizer=SGD(lr=1.0, momentum=0.0))
    session = start(config, Replicate(), runtime)
    parameters = [parameter for parameter in session.segmenter.parameters() if parameter.requires_grad]
    before = [parameter.detach().clone() for parameter in parameters]
    epoch(session)
    moved = torch.cat([(new.detach() - old).flatten() for new, old in zip(parameters, before, strict=True)])
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("images", "batch", "accumulate", "steps"),
    [(10, 2, 1, 5), (10, 2, 2, 3), (10, 3, 2, 2), (1, 2, 4, 1), (8, 2, 4, 1)],
)
def test_the_schedule_counts_optimizer_steps(images: int, batch: int, accumulate: int, steps: int) -> None:
    assert steps_per_epoch(images, batch, accumulate) == steps


def test_the_rate_falls_per_optimizer_step(tiny: TrialConfig, runtime: Runtime) -> None:
    config = replace(tiny, batch_size=2, accumulate=2, epochs=2, schedule=Step(every=2, gamma=0.5))
    session = start(config, Replicate(), runtime)
    rates = [epoch(session)["lr"] for _ in range(2)]
    assert rates == pytest.approx([0.1 / 2, 0.1 / 4])  # after 3 steps; the last of 6 keeps the rate of step 5


def test_losses_of_the_curve_are_means_over_images_however_they_are_batched(
    tiny: TrialConfig, runtime: Runtime
) -> None:
    frozen = replace(tiny, adapters=(LoRA(rank=2, alpha=0.0, dropout=0.0),), auxiliary=(IoUError(weight=0.3),))
    one, other = (
        epoch(start(replace(frozen, batch_size=batch, accumulate=accumulate), Replicate(), runtime))
        for batch, accumulate in ((10, 1), (3, 2))
    )
    for name in ("loss/total", "loss/bce", "loss/iou", "score"):
        assert one[name] == pytest.approx(other[name], rel=1e-4)
    weighted = sum(one[f"loss/{name}"] * weight for name, weight in frozen.loss.weights.items())
    assert one["loss/total"] == pytest.approx(weighted + 0.3 * one["loss/iou"], rel=1e-5)


def test_denormal_numbers_are_zero_in_the_steps_of_an_epoch_alone(tiny: TrialConfig, runtime: Runtime) -> None:
    seen = list[float]()

    class Watched(SingleForward):
        def __call__(self, given: Sequence[Seen], places: Sequence[int]) -> Sequence[Output]:
            seen.append(torch.tensor(1e-40).item())
            return super().__call__(given, places)

    session = start(tiny, Replicate(), runtime)
    lockstep([session], Watched(session))
    assert seen
    assert set(seen) == {0.0}
    assert torch.tensor(1e-40).item() > 0


def objective_of(session: Session) -> tuple[Objective, Prediction, Batch]:
    """The objective of the first batch of a session, with what it is of."""
    batch = next(batches(session, 1))
    ((prediction, features),) = SingleForward(session)([(batch.images, batch.points)], [0])
    terms, weights = terms_of(session.config.loss, session.config.auxiliary)
    return objective(terms, weights[:, None], prediction, features, batch), prediction, batch


def test_the_total_is_the_weighted_sum_of_the_unweighted_losses(tiny: TrialConfig, runtime: Runtime) -> None:
    config = replace(tiny, loss=weighted({BCE(): 0.7, SoftDice(): 0.3}), auxiliary=(IoUError(weight=0.25),))
    (total, values), prediction, batch = objective_of(start(config, Replicate(), runtime))
    logits = torch.nn.functional.interpolate(prediction.logits, size=64, mode="bilinear", align_corners=False)
    torch.testing.assert_close(values[0], BCE()(logits, batch.masks))
    torch.testing.assert_close(values[1], SoftDice()(logits, batch.masks))
    torch.testing.assert_close(total, 0.7 * values[0] + 0.3 * values[1] + 0.25 * values[2])


def test_the_guess_of_the_iou_is_a_loss_only_where_it_has_a_weight(tiny: TrialConfig, runtime: Runtime) -> None:
    (_, values), prediction, _ = objective_of(start(tiny, Replicate(), runtime))
    assert prediction.iou is not None
    assert len(values) == len(tiny.loss.terms)


def test_the_term_is_the_distance_of_the_prediction_from_the_iou_of_the_thresholded_mask(
    tiny: TrialConfig, runtime: Runtime
) -> None:
    session = start(replace(tiny, auxiliary=(IoUError(weight=0.25),)), Replicate(), runtime)
    (_, values), prediction, batch = objective_of(session)
    assert prediction.iou is not None
    frame = torch.nn.functional.interpolate(prediction.logits, size=64, mode="bilinear", align_corners=False)
    ious = [jaccard_score(m.flatten().bool(), f.flatten() > 0) for m, f in zip(batch.masks, frame, strict=True)]
    expected = np.abs(prediction.iou[:, 0].detach().numpy() - ious)
    np.testing.assert_allclose(values[-1].detach().numpy(), expected, atol=1e-6)
    terms, weights = terms_of(session.config.loss, session.config.auxiliary)
    assert dict(zip(terms.names, weights.tolist(), strict=True)) == {**tiny.loss.weights, "iou": 0.25}


@pytest.mark.parametrize(
    ("logits", "target", "iou"),
    [([-1.0, -1.0], [0.0, 0.0], 1.0), ([1.0, -1.0], [0.0, 0.0], 0.0), ([-1.0, -1.0], [1.0, 0.0], 0.0),
     ([1.0, 1.0], [1.0, 0.0], 0.5), ([9.0, -9.0], [1.0, 0.0], 1.0)],
)  # fmt: skip
def test_the_iou_of_masks_down_to_empty_ones(logits: list[float], target: list[float], iou: float) -> None:
    found = thresholded_iou(torch.tensor(logits).view(1, 1, 1, 2), torch.tensor(target).view(1, 1, 1, 2))
    assert found.item() == pytest.approx(iou)


def test_the_gradient_of_the_term_flows_through_the_prediction_and_the_head_stays_frozen(
    tiny: TrialConfig, runtime: Runtime
) -> None:
    session = start(replace(tiny, auxiliary=(IoUError(),)), Replicate(), runtime)
    batch = next(batches(session, 1))
    features = session.segmenter.encode(batch.images)
    prediction = session.segmenter.decode(features)
    frame = torch.nn.functional.interpolate(prediction.logits, size=64, mode="bilinear").detach().requires_grad_()
    IoUError()(prediction._replace(logits=frame), features, batch).sum().backward()  # type: ignore[no-untyped-call]
    assert frame.grad is None, "the mask is not moved towards what the head believes"
    head = session.segmenter.sam.sam_mask_decoder.iou_prediction_head
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in head.parameters())
    moved = {n for n, p in session.segmenter.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert any("sam_mask_decoder.transformer" in name for name in moved)
    assert any("image_encoder" in name for name in moved)


def test_the_guess_of_the_iou_is_the_official_one() -> None:
    segmenter = build(Nano(weights="random"), 64, Runtime())
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    quality = segmenter(images).iou
    assert quality.shape == (3, 1)
    seen: list[torch.Tensor] = []
    segmenter.sam.sam_mask_decoder.iou_prediction_head.register_forward_hook(lambda *hooked: seen.append(hooked[2]))
    segmenter(images)
    assert torch.equal(quality[:, 0], seen[0][:, 1]), "channel 0 of three is token 1 of four"
    assert ((quality >= 0) & (quality <= 1)).all()


def test_a_unet_guesses_no_iou(tiny: TrialConfig) -> None:
    with pytest.raises(ValidationError, match="a U-Net guesses no IoU, but auxiliary has 'iou': leave it out"):
        replace(tiny, backbone=UNet(), adapters=(Full(),), auxiliary=(IoUError(weight=0.1),))
