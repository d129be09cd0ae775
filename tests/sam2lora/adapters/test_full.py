"""Full fine-tuning: what it trains, that it is exactly restored, and that it stays inside its trial."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sam2lora.adapters import Adapter, Attachment, Full, LoRA, count, share
from sam2lora.augments import Flips
from sam2lora.backbones import Backbone, Nano, Sam2, UNet
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.errors import CheckpointError
from sam2lora.models.build import build, parameters
from sam2lora.optimizers import AdamW
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime
from sam2lora.training.checkpoint import resume, save
from sam2lora.training.loop import epoch
from sam2lora.training.memory import training_need
from sam2lora.training.scoring import final_scores
from sam2lora.training.session import Session, pristine, start

NANO, UNET = Nano(weights="random"), UNet(encoder="mobilenet_v2")
BACKBONES = [pytest.param(NANO, id="nano"), pytest.param(UNET, id="unet")]


@pytest.fixture
def config() -> TrialConfig:
    """Eight training images of 64 pixels, two epochs."""
    return TrialConfig(
        protocol=Transfer(
            sources=(Synthetic(hospital="alder", images=14, size=64),),
            targets=(Synthetic(hospital="cedar", images=4, size=64),),
        ),
        backbone=NANO,
        adapters=(Full(),),
        optimizer=AdamW(lr=1e-3),
        augment=Flips(),
        image_size=64,
        epochs=2,
    )


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(cache=tmp_path_factory.mktemp("cache"))


def attached(backbone: Backbone) -> Attachment:
    return Attachment(build(backbone, 64, Runtime()), (Full(),))


def values(segmenter: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in segmenter.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_what_is_trainable_is_what_is_counted(backbone: Backbone) -> None:
    segmenter = attached(backbone).segmenter
    trainable = sum(parameter.numel() for parameter in segmenter.parameters() if parameter.requires_grad)
    assert trainable == count((Full(),), backbone)
    assert share((Full(),), backbone) == trainable / parameters(backbone)
    assert share((Full(),), UNET) == 1.0


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_file_is_the_same_whatever_the_memory_format(backbone: Backbone, tmp_path: Path) -> None:
    attachment = attached(backbone)
    state = attachment.state()
    assert all(tensor.is_contiguous() for tensor in state.values())
    save_file(state, tmp_path / "channels.safetensors")
    attachment.segmenter.to(memory_format=torch.contiguous_format)
    save_file(attachment.state(), tmp_path / "plain.safetensors")
    assert (tmp_path / "channels.safetensors").read_bytes() == (tmp_path / "plain.safetensors").read_bytes()


def test_the_image_path_of_the_published_models_is_counted_without_weights() -> None:
    """The whole of SAM 2.1 tiny less its video modules and the heads that nothing reads."""
    parameters_of_the_path = count((Full(),), Sam2(size="tiny"))
    assert 26_849_472 + 3_000_000 < parameters_of_the_path < 26_849_472 + 4_215_109 + 1_500_000
    assert parameters_of_the_path < parameters(Sam2(size="tiny"))


@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet-b0"])
def test_every_parameter_of_a_unet_gets_a_gradient(encoder: str, images: torch.Tensor) -> None:
    segmenter = attached(replace(UNET, encoder=encoder)).segmenter.train()
    segmenter(images).logits.square().mean().backward()
    assert [name for name, parameter in segmenter.named_parameters() if parameter.grad is None] == []


def test_of_a_sam_2_only_prompts_and_the_quality_head_wait_for_their_use(images: torch.Tensor) -> None:
    """With points on, beside, padded and of a box, and the quality score in the loss, nothing is left over."""
    segmenter = attached(NANO).segmenter.train()
    segmenter(images).logits.square().mean().backward()
    idle = {name for name, parameter in segmenter.sam.named_parameters() if _idle(parameter)}
    assert all(
        name.startswith(
            ("sam_prompt_encoder.point_embeddings", "sam_prompt_encoder.not_a_point", "sam_mask_decoder.iou_pred")
        )
        for name in idle
    )
    points = torch.rand(3, 5, 2) * 64, torch.tensor([[1, 0, 2, 3, -1]] * 3, dtype=torch.int32)
    segmenter(images, points).logits.square().mean().backward()
    idle = {name for name, parameter in segmenter.sam.named_parameters() if _idle(parameter)}
    assert idle
    assert all(name.startswith("sam_mask_decoder.iou_prediction_head") for name in idle)


def _idle(parameter: torch.nn.Parameter) -> bool:
    return parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_state_is_all_that_training_changed(
    config: TrialConfig, runtime: Runtime, backbone: Backbone, tmp_path: Path
) -> None:
    session = start(replace(config, backbone=backbone), Replicate(), runtime)
    before = values(session.segmenter)
    epoch(session)
    trained = values(session.segmenter)
    assert not equal(before, trained)
    save_file(session.attachment.state(), tmp_path / "adapter.safetensors")

    again = attached(backbone)
    again.load(load_file(tmp_path / "adapter.safetensors"))

    assert equal(values(again.segmenter), trained)


def test_a_state_of_another_backbone_is_refused() -> None:
    with pytest.raises(CheckpointError, match="names and shapes"):
        attached(NANO).load(attached(UNET).state())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_resumed_trial_ends_like_one_that_never_stopped(
    config: TrialConfig, runtime: Runtime, backbone: Backbone, tmp_path: Path
) -> None:
    config = replace(config, backbone=backbone)
    whole = _run(start(config, Replicate(), runtime))
    expected, scores = values(whole.segmenter), final_scores(whole)
    half = start(config, Replicate(), runtime)
    epoch(half)
    save(half, tmp_path / "checkpoint.pt")

    resumed = start(config, Replicate(), runtime)
    resume(resumed, tmp_path / "checkpoint.pt")
    _run(resumed)

    assert equal(values(resumed.segmenter), expected)
    assert final_scores(resumed).equals(scores)
    assert [entry["score"] for entry in resumed.curve] == [entry["score"] for entry in whole.curve]


def _run(session: Session) -> Session:
    while not session.finished:
        epoch(session)
    return session


@pytest.mark.parametrize("following", [LoRA(rank=2, alpha=4.0), Full()], ids=lambda adapter: adapter.kind)
def test_what_was_trained_does_not_reach_the_next_trial(
    config: TrialConfig, runtime: Runtime, following: Adapter
) -> None:
    epoch(start(config, Replicate(), runtime))
    after = start(replace(config, adapters=(following,)), Replicate(), runtime)
    fresh = build(NANO, 64, runtime)
    Attachment(fresh, (following,))
    frozen = values(fresh)
    now = values(after.segmenter)
    assert all(torch.equal(now[name], tensor) for name, tensor in frozen.items() if ".lora." not in name)


def test_batch_statistics_do_not_reach_the_next_trial(config: TrialConfig, runtime: Runtime) -> None:
    config = replace(config, backbone=UNET)
    _run(start(config, Replicate(), runtime))
    assert equal(values(start(config, Replicate(), runtime).segmenter), values(build(UNET, 64, runtime)))


def test_a_frozen_segmenter_is_still_reused(config: TrialConfig, runtime: Runtime) -> None:
    start(replace(config, adapters=(LoRA(rank=2),)), Replicate(), runtime)
    first = pristine(NANO, 64, runtime)
    start(replace(config, adapters=(LoRA(rank=2),)), Replicate(), runtime)
    assert pristine(NANO, 64, runtime) is first


@pytest.mark.parametrize("backbone", BACKBONES)
def test_memory_counts_gradients_and_optimizer_state(config: TrialConfig, backbone: Backbone) -> None:
    config = replace(config, backbone=backbone)
    assert sum(training_need(config)) > 4 * 4 * count((Full(),), backbone) / 2**20
    assert sum(training_need(replace(config, batch_size=8))) > sum(training_need(config))
