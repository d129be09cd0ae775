"""The U-Net offers what SAM 2's segmenter offers, and refuses what it has not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
from pydantic import ValidationError
from safetensors.torch import save_file

from sam2lora.adapters import Adapter, Attachment, Full, LoRA, count
from sam2lora.backbones import Encoder, UNet
from sam2lora.config import TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.errors import CheckpointError
from sam2lora.models.build import build, parameters, shapes
from sam2lora.models.sam2 import Sam2Segmenter
from sam2lora.models.weights import files_by_digest, sha256
from sam2lora.prompts import Points
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime

ENCODERS: tuple[Encoder, ...] = get_args(Encoder)
SMALL = UNet(encoder="mobilenet_v2")
CONFIG = TrialConfig(
    protocol=Transfer(sources=(Synthetic(hospital="alder"),)), backbone=SMALL, adapters=(Full(),), image_size=64
)


@pytest.mark.parametrize("decoder", ["unet", "unet++"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_logits_have_the_size_of_the_image(encoder: Encoder, decoder: str, images: torch.Tensor) -> None:
    segmenter = shapes(replace(SMALL, encoder=encoder, decoder=decoder), 64)
    logits = segmenter.to("meta")(images.to("meta")).logits
    assert logits.shape == (3, 1, 64, 64)
    assert segmenter.mask_stride == 1


def test_it_is_the_package_s_network_behind_imagenet_s_normalisation(images: torch.Tensor) -> None:
    ours = build(SMALL, 64, Runtime())
    official = smp.Unet("mobilenet_v2", encoder_weights=None).eval()
    official.load_state_dict(ours.network.state_dict())
    normalise = torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert (ours(images).logits - official(normalise(images))).abs().max() <= 1e-6
    assert ours(images).logits.std() > 0


def test_random_weights_are_the_same_every_time_and_draw_nothing(images: torch.Tensor) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = build(SMALL, 64, Runtime())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert torch.equal(build(SMALL, 64, Runtime())(images).logits, first(images).logits)
    assert not first.training
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_points_are_refused(images: torch.Tensor) -> None:
    points = torch.zeros(3, 1, 2), torch.ones(3, 1, dtype=torch.int32)
    with pytest.raises(ValueError, match="takes no prompt, but points were given: use NoPrompt"):
        build(SMALL, 64, Runtime())(images, points)


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(N, 3, 64, 64\), but got \(1, 3, 96, 96\)"):
        build(SMALL, 64, Runtime())(torch.zeros(1, 3, 96, 96))


@pytest.mark.parametrize(("size", "remedy"), [(32, "use 64"), (100, "use 96 or 128"), (70, "use 64 or 96")])
def test_a_size_that_does_not_fit_is_refused_with_the_next_that_do(size: int, remedy: str) -> None:
    with pytest.raises(ValueError, match=rf"multiple of 32 from 64 on .* got {size}: {remedy}\."):
        build(SMALL, size, Runtime())


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_an_encoder_s_file_is_loaded_whole_and_the_decoder_is_not_touched(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(1)
    whole = torchvision.models.mobilenet_v2(weights=None).state_dict()
    path = tmp_path / f"encoder.{suffix}"
    save_file(whole, path) if suffix == "safetensors" else torch.save(whole, path)

    loaded = build(replace(SMALL, checkpoint=sha256(path)), 64, Runtime(weights=files_by_digest([path]))).network
    random = build(SMALL, 64, Runtime()).network

    own = {name.removeprefix("encoder."): t for name, t in loaded.state_dict().items() if name.startswith("encoder.")}
    assert own.keys() == {name for name in whole if not name.startswith("classifier.")}
    assert all(torch.equal(tensor, whole[name]) for name, tensor in own.items())
    assert any(not torch.equal(tensor, random.state_dict()[f"encoder.{name}"]) for name, tensor in own.items())
    rest = {name: tensor for name, tensor in loaded.state_dict().items() if not name.startswith("encoder.")}
    assert all(torch.equal(tensor, random.state_dict()[name]) for name, tensor in rest.items())


def test_a_file_without_counts_of_batches_is_taken(tmp_path: Path) -> None:
    state = torchvision.models.mobilenet_v2(weights=None).state_dict()
    path = tmp_path / "old.pth"
    torch.save({name: tensor for name, tensor in state.items() if "num_batches" not in name}, path)
    build(replace(SMALL, checkpoint=sha256(path)), 64, Runtime(weights=files_by_digest([path])))


def test_the_file_of_another_encoder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    with pytest.raises(CheckpointError, match=r"shapes of mobilenet_v2, but \d+ missing .* name the encoder of"):
        build(replace(SMALL, checkpoint=sha256(path)), 64, Runtime(weights=files_by_digest([path])))


def test_a_segment_anything_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sam.pt"
    torch.save({"model": {"a": torch.zeros(1)}}, path)
    with pytest.raises(CheckpointError, match=r"1 unexpected \(a\).* name the encoder of"):
        build(replace(SMALL, checkpoint=sha256(path)), 64, Runtime(weights=files_by_digest([path])))


def test_a_damaged_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    path.write_bytes(b"\x00" * 20)
    with pytest.raises(CheckpointError, match="must be a file of tensors"):
        build(replace(SMALL, checkpoint=sha256(path)), 64, Runtime(weights=files_by_digest([path])))


@pytest.mark.parametrize(("adapters", "kinds"), [((LoRA(),), "lora"), ((), "frozen")])
def test_a_trial_refuses_a_unet_that_is_not_trained_whole(adapters: tuple[Adapter, ...], kinds: str) -> None:
    with pytest.raises(ValidationError, match=rf"trained whole, but adapters are {kinds}: use Full\(\)"):
        replace(CONFIG, adapters=adapters)


@pytest.mark.parametrize("name", ["train_prompt", "test_prompt"])
def test_a_trial_refuses_a_unet_with_a_prompt(name: str) -> None:
    with pytest.raises(ValidationError, match=rf"takes no prompt, but {name} is 'points': use NoPrompt\(\)"):
        replace(CONFIG, **{name: Points()})


def test_lora_has_no_layers_in_a_unet() -> None:
    segmenter = build(SMALL, 64, Runtime())
    assert not isinstance(segmenter, Sam2Segmenter)
    for refused in (
        lambda: Attachment(segmenter, (LoRA(),)),
        lambda: count((LoRA(),), SMALL),
        lambda: LoRA().sites(SMALL),
    ):
        with pytest.raises(ValueError, match=r"use Full\(\)"):
            refused()
    assert parameters(SMALL) == count((Full(),), SMALL) == sum(p.numel() for p in segmenter.parameters())
