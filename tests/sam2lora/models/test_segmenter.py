"""The segmenter computes what the official predictor computes."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hydra import compose
from hydra.utils import instantiate
from sam2.modeling.sam2_base import SAM2Base
from sam2.sam2_image_predictor import SAM2ImagePredictor

from sam2lora.backbones import Backbone, Nano, Sam2, architecture
from sam2lora.models.build import build
from sam2lora.models.segmenter import Points, Segmenter
from sam2lora.runtime import Runtime

POINTS: Points = (
    torch.tensor([[[10.0, 20.0], [40.0, 50.0]], [[3.0, 60.0], [0.0, 0.0]], [[33.0, 8.0], [12.0, 12.0]]]),
    torch.tensor([[1, 0], [1, -1], [1, 1]], dtype=torch.int32),
)


def predicted(sam: SAM2Base, image: torch.Tensor, stride: int, points: Points | None) -> torch.Tensor:
    """Mask channel 0 (1, s, s) of the official predictor for one ``image`` (3, S, S), which it does not resize."""
    predictor = SAM2ImagePredictor(sam)
    finest = sam.image_size // stride
    predictor._bb_feat_sizes = [(finest, finest), (finest // 2, finest // 2), (finest // 4, finest // 4)]
    predictor.set_image((image * 255).round().byte().permute(1, 2, 0).numpy())
    coords, labels = (None, None) if points is None else (points[0].numpy(), points[1].numpy())
    _, _, masks = predictor.predict(coords, labels, multimask_output=True, return_logits=True)
    return torch.from_numpy(masks[:1])


@pytest.mark.parametrize("points", [None, POINTS], ids=["promptless", "points"])
def test_nano_agrees_with_the_official_predictor(nano: Segmenter, images: torch.Tensor, points: Points | None) -> None:
    logits = nano(images, points).logits

    for i, image in enumerate(images):
        own = None if points is None else (points[0][i], points[1][i])
        official = predicted(nano.sam, image, nano.mask_stride, own)
        assert (logits[i] - official).abs().max() <= 1e-5
    assert logits.std() > 0


@pytest.mark.parametrize("points", [None, POINTS], ids=["promptless", "points"])
def test_a_published_model_agrees_with_the_official_predictor(images: torch.Tensor, points: Points | None) -> None:
    """With the official configuration too: our stand-in for the sine positions of the neck changes nothing."""
    ours = build(Sam2(size="tiny"), 64, Runtime())
    configuration = compose(config_name="configs/sam2.1/sam2.1_hiera_t.yaml", overrides=["++model.image_size=64"])
    official = instantiate(configuration.model, _recursive_=True).eval()
    official.load_state_dict(ours.sam.state_dict())

    logits = ours(images[:1], None if points is None else (points[0][:1], points[1][:1])).logits

    own = None if points is None else (points[0][0], points[1][0])
    assert (logits[0] - predicted(official, images[0], 4, own)).abs().max() <= 1e-5


def test_the_embedding_of_no_memory_reaches_the_mask(nano: Segmenter, images: torch.Tensor) -> None:
    before = nano(images).logits
    nano.sam.no_mem_embed.add_(1.0)
    assert (nano(images).logits - before).abs().max() > 1e-4


@pytest.mark.parametrize("points", [None, POINTS], ids=["promptless", "points"])
def test_permuting_images_permutes_logits(nano: Segmenter, images: torch.Tensor, points: Points | None) -> None:
    order = torch.tensor([2, 0, 1])
    permuted = None if points is None else (points[0][order], points[1][order])

    torch.testing.assert_close(
        nano(images[order], permuted).logits, nano(images, points).logits[order], rtol=0, atol=1e-6
    )


def test_padded_points_count_as_absent(nano: Segmenter, images: torch.Tensor) -> None:
    coords, labels = POINTS[0][1:2], POINTS[1][1:2]
    moved = coords.clone()
    moved[0, 1] = 55.0

    padded = nano(images[:1], (coords, labels)).logits

    torch.testing.assert_close(padded, nano(images[:1], (moved, labels)).logits, rtol=0, atol=0)
    assert (padded - nano(images[:1], (moved, labels.abs())).logits).abs().max() > 1e-6


@pytest.mark.parametrize(("backbone", "size", "side"), [(Nano(weights="random"), 96, 48), (Sam2(size="tiny"), 96, 24)])
def test_logits_have_mask_stride(backbone: Backbone, size: int, side: int) -> None:
    segmenter = build(backbone, size, Runtime())
    logits = segmenter(torch.zeros(2, 3, size, size)).logits
    assert logits.shape == (2, 1, side, side)
    assert size // segmenter.mask_stride == side


@pytest.mark.parametrize(
    ("backbone", "size", "remedy"),
    [(Nano(), 100, "96 or 112"), (Sam2(size="large"), 1000, "992 or 1024"), (Nano(), 16, "32"), (Nano(), 0, "32")],
)
def test_a_size_that_does_not_fit_is_refused_with_the_next_that_do(backbone: Backbone, size: int, remedy: str) -> None:
    with pytest.raises(ValueError, match=rf"multiple of {architecture(backbone).multiple} .* got {size}: use {remedy}"):
        build(backbone, size, Runtime())


def test_every_multiple_fits() -> None:
    for size in range(32, 16 * 9, 16):
        logits = build(Nano(weights="random"), size, Runtime())(torch.zeros(1, 3, size, size)).logits
        assert logits.shape == (1, 1, size // 2, size // 2)


def test_images_of_another_size_are_refused(nano: Segmenter) -> None:
    with pytest.raises(ValueError, match=r"must be \(N, 3, 64, 64\), but got \(1, 3, 32, 32\)"):
        nano(torch.zeros(1, 3, 32, 32))


def test_build_freezes_and_leaves_the_global_random_state_alone() -> None:
    state = torch.get_rng_state()
    segmenter = build(Nano(weights="random"), 64, Runtime())

    assert torch.equal(torch.get_rng_state(), state)
    assert not segmenter.training
    assert not any(parameter.requires_grad for parameter in segmenter.parameters())


def test_random_weights_are_the_same_every_time(images: torch.Tensor) -> None:
    torch.manual_seed(5)
    first = build(Nano(weights="random"), 64, Runtime())(images).logits
    torch.manual_seed(6)
    assert torch.equal(build(Nano(weights="random"), 64, Runtime())(images).logits, first)


def test_images_are_normalised_as_imagenet(nano: Segmenter) -> None:
    """An image of the mean colour is zero to the trunk, so patch embedding gives its bias everywhere."""
    mean = torch.from_numpy(np.array([0.485, 0.456, 0.406], np.float32)).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    seen = []
    patches = nano.sam.image_encoder.trunk.patch_embed
    patches.register_forward_hook(lambda module, inputs, output: seen.append(output))

    nano(mean)

    torch.testing.assert_close(seen[0], patches.proj.bias.expand_as(seen[0]), rtol=0, atol=1e-6)


def test_float32_is_float32_in_the_products_of_a_gpu_whatever_its_container_sets() -> None:
    asked = """import sam2lora.models.build, torch
print(torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)"""
    environment = {**os.environ, "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"}
    ran = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]
