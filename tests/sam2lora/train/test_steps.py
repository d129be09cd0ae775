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
from sam2lora.backbones import Nano, UNet
from sam2lora.config import Replicate, TrialConfig, steps_per_epoch
from sam2lora.losses.quality import quality_error
from sam2lora.model import Sam2Segmenter, build
from sam2lora.optimizers import SGD
from sam2lora.runtime import Runtime
from sam2lora.schedules import Step
from sam2lora.train import Alone, Output, Seen, Session, batches, epoch, lockstep, loss_weights, losses, pristine, start


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
    config = replace(tiny, clip_norm=clip, iou_weight=0.1)
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
    frozen = replace(tiny, adapter=LoRA(rank=2, alpha=0.0, dropout=0.0), iou_weight=0.3)
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

    class Watched(Alone):
        def __call__(self, given: Sequence[Seen], places: Sequence[int]) -> Sequence[Output]:
            seen.append(torch.tensor(1e-40).item())
            return super().__call__(given, places)

    session = start(tiny, Replicate(), runtime)
    lockstep([session], Watched(session))
    assert seen
    assert set(seen) == {0.0}
    assert torch.tensor(1e-40).item() > 0


def batch_of(session: Session) -> tuple[torch.Tensor, torch.Tensor]:
    images, masks, _ = next(batches(session, 1))
    return images, masks


def test_the_quality_head_is_run_only_where_it_counts(
    tiny: TrialConfig, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = start(tiny, Replicate(), runtime)
    monkeypatch.setattr(Sam2Segmenter, "forward_with_iou", lambda *_: pytest.fail("computed"))
    images, masks = batch_of(session)
    ((logits, quality),) = Alone(session)([(images, None)], [0])
    assert quality is None
    assert "iou" not in losses(tiny, logits, quality, masks)


def test_the_term_is_the_distance_of_the_prediction_from_the_iou_of_the_thresholded_mask(
    tiny: TrialConfig, runtime: Runtime
) -> None:
    config = replace(tiny, iou_weight=0.25)
    session = start(config, Replicate(), runtime)
    images, masks = batch_of(session)
    ((logits, quality),) = Alone(session)([(images, None)], [0])
    assert quality is not None
    parts = losses(config, logits, quality, masks)
    frame = torch.nn.functional.interpolate(logits, size=64, mode="bilinear", align_corners=False)
    ious = [jaccard_score(m.flatten().bool(), f.flatten() > 0) for m, f in zip(masks, frame, strict=True)]
    expected = np.abs(quality[:, 0].detach().numpy() - ious)
    np.testing.assert_allclose(parts["iou"].detach().numpy(), expected, atol=1e-6)
    assert dict(zip(parts, loss_weights(config), strict=True)) == {**tiny.loss.weights, "iou": 0.25}


@pytest.mark.parametrize(
    ("logits", "target", "iou"),
    [([-1.0, -1.0], [0.0, 0.0], 1.0), ([1.0, -1.0], [0.0, 0.0], 0.0), ([-1.0, -1.0], [1.0, 0.0], 0.0),
     ([1.0, 1.0], [1.0, 0.0], 0.5), ([9.0, -9.0], [1.0, 0.0], 1.0)],
)  # fmt: skip
def test_the_iou_of_masks_down_to_empty_ones(logits: list[float], target: list[float], iou: float) -> None:
    error = quality_error(
        torch.tensor([[0.25]]), torch.tensor(logits).view(1, 1, 1, 2), torch.tensor(target).view(1, 1, 1, 2)
    )
    assert error.item() == pytest.approx(abs(0.25 - iou))


def test_the_gradient_of_the_term_flows_through_the_prediction_and_the_head_stays_frozen(
    tiny: TrialConfig, runtime: Runtime
) -> None:
    session = start(replace(tiny, iou_weight=1.0), Replicate(), runtime)
    images, masks = batch_of(session)
    logits, quality = session.segmenter.forward_with_iou(images)
    frame = torch.nn.functional.interpolate(logits, size=64, mode="bilinear").detach().requires_grad_()
    quality_error(quality, frame, masks).sum().backward()  # type: ignore[no-untyped-call]
    assert frame.grad is None, "the mask is not moved towards what the head believes"
    head = session.segmenter.sam.sam_mask_decoder.iou_prediction_head
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in head.parameters())
    moved = {n for n, p in session.segmenter.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert any("sam_mask_decoder.transformer" in name for name in moved)
    assert any("image_encoder" in name for name in moved)


def test_the_logits_are_those_of_the_plain_pass_and_the_quality_is_the_official_one() -> None:
    segmenter = build(Nano(weights="random"), 64, Runtime())
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    logits, quality = segmenter.forward_with_iou(images)
    assert torch.equal(logits, segmenter(images))
    assert quality.shape == (3, 1)
    seen: list[torch.Tensor] = []
    segmenter.sam.sam_mask_decoder.iou_prediction_head.register_forward_hook(lambda *hooked: seen.append(hooked[2]))
    segmenter(images)
    assert torch.equal(quality[:, 0], seen[0][:, 1]), "channel 0 of three is token 1 of four"
    assert ((quality >= 0) & (quality <= 1)).all()


def test_a_unet_guesses_no_iou(tiny: TrialConfig) -> None:
    with pytest.raises(ValidationError, match=r"a U-Net guesses no IoU, but iou_weight is 0\.1: set it to 0"):
        replace(tiny, backbone=UNet(), adapter=Full(), iou_weight=0.1)
