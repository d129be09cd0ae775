"""What prompts do to masks: the official predictor's, each image's own, and what is left of a prompt without marks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sam2.sam2_image_predictor import SAM2ImagePredictor
from torch import Tensor

from sam2lora.backbones import Backbone, Nano, Sam2
from sam2lora.models.build import build
from sam2lora.models.segmenter import Points as Tensors
from sam2lora.models.segmenter import Segmenter
from sam2lora.prompts import PAPER_MODES, NoisyBox, Points, Prompt, as_tensors
from sam2lora.runtime import Runtime

SIDE = 64
BACKBONES: dict[str, Backbone] = {"nano": Nano(weights="random"), "tiny": Sam2(size="tiny")}
PROMPTS: dict[str, Prompt] = {
    **{name: prompt for name, prompt in PAPER_MODES.items() if name != "none"},
    "noisy box": NoisyBox(noise=0.3),
    "periphery": Points(positive=3, negative=2, region="periphery"),
}


@pytest.fixture(scope="module", params=BACKBONES)
def segmenter(request: pytest.FixtureRequest) -> Segmenter:
    return build(BACKBONES[request.param], SIDE, Runtime())


@pytest.fixture(scope="module")
def nano() -> Segmenter:
    return build(BACKBONES["nano"], SIDE, Runtime())


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Three random images (3, 3, 64, 64), each exact in 8 bits."""
    return torch.randint(0, 256, (3, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(1)) / 255


@pytest.fixture(scope="module")
def masks() -> NDArray[np.bool_]:
    """A disc, two components, and a vessel of one pixel."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    disc = (rows - 20) ** 2 + (columns - 40) ** 2 <= 81
    pair = ((rows - 10) ** 2 + (columns - 10) ** 2 <= 16) | ((rows > 50) & (columns > 44))
    return np.stack([disc, pair, np.abs(rows - 60 + columns // 2) == 0])


def drawn(prompt: Prompt, masks: NDArray[np.bool_], seed: int = 0) -> Tensors:
    marks = as_tensors([prompt.sample(mask, np.random.default_rng([seed, i])) for i, mask in enumerate(masks)], "cpu")
    assert marks is not None
    return marks


@pytest.fixture(scope="module")
def predictor(segmenter: Segmenter, images: Tensor) -> SAM2ImagePredictor:
    """The official predictor on the same modules, holding the three images."""
    predictor = SAM2ImagePredictor(segmenter.sam)
    finest = SIDE // segmenter.mask_stride
    predictor._bb_feat_sizes = [(finest, finest), (finest // 2, finest // 2), (finest // 4, finest // 4)]
    predictor.set_image_batch([(image * 255).round().byte().permute(1, 2, 0).numpy() for image in images])
    return predictor


def official(predictor: SAM2ImagePredictor, marks: Tensors) -> Tensor:
    """Mask channel 0 (N, 1, s, s) of every image, with boxes told as boxes and points as points."""
    told = []
    for coords, labels in zip(*marks, strict=True):
        cornered = (labels == 2) | (labels == 3)
        box = coords[cornered].reshape(4).numpy() if cornered.any() else None
        points = (None, None) if cornered.all() else (coords[~cornered].numpy(), labels[~cornered].numpy())
        told.append((*points, box))
    coords, labels, boxes = zip(*told, strict=True)
    _, _, masks = predictor.predict_batch(coords, labels, boxes, multimask_output=True, return_logits=True)
    return torch.from_numpy(np.stack(masks)[:, :1])


@pytest.mark.parametrize("name", PROMPTS)
def test_masks_are_those_of_the_official_predictor(
    segmenter: Segmenter, predictor: SAM2ImagePredictor, images: Tensor, masks: NDArray[np.bool_], name: str
) -> None:
    points = drawn(PROMPTS[name], masks)
    with torch.no_grad():
        logits = segmenter(images, points).logits
    torch.testing.assert_close(logits, official(predictor, points), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", PROMPTS)
def test_permuting_images_permutes_their_masks(
    nano: Segmenter, images: Tensor, masks: NDArray[np.bool_], name: str
) -> None:
    """The published code decodes every prompt of a batch on the features of its last image."""
    coords, labels = drawn(PROMPTS[name], masks)
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        straight, permuted = (
            nano(images, (coords, labels)).logits,
            nano(images[order], (coords[order], labels[order])).logits,
        )
        alone = torch.cat([nano(images[[i]], (coords[[i]], labels[[i]])).logits for i in range(3)])
    torch.testing.assert_close(permuted, straight[order], rtol=0, atol=1e-5)
    torch.testing.assert_close(alone, straight, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_moves_the_mask_of_its_own_image_alone(
    nano: Segmenter, images: Tensor, masks: NDArray[np.bool_], name: str
) -> None:
    coords, labels = drawn(PROMPTS[name], masks)
    moved = coords.clone()
    moved[1] = 63 - moved[1].flip(0)
    with torch.no_grad():
        before, after = nano(images, (coords, labels)).logits, nano(images, (moved, labels)).logits
    assert (before[1] - after[1]).abs().max() > 1e-4
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], rtol=0, atol=0)


def test_all_paper_modes_give_different_masks(nano: Segmenter, images: Tensor, masks: NDArray[np.bool_]) -> None:
    """The fourth and the fifth too: the published code draws no negative point, which makes them one."""
    with torch.no_grad():
        found = [
            nano(images, None if name == "none" else drawn(prompt, masks)).logits
            for name, prompt in PAPER_MODES.items()
        ]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert (one - other).abs().amax(dim=(1, 2, 3)).min() > 1e-5


def test_padding_alone_is_a_prompt_of_its_own(
    segmenter: Segmenter, predictor: SAM2ImagePredictor, images: Tensor, masks: NDArray[np.bool_]
) -> None:
    """The decoder sees tokens that say "no point": not what it sees without a prompt, wherever the padding lies."""
    empty = np.zeros_like(masks)
    coords, labels = drawn(PAPER_MODES["box"], empty)
    assert (labels == -1).all()
    with torch.no_grad():
        padded, promptless = segmenter(images, (coords, labels)).logits, segmenter(images).logits
        elsewhere = segmenter(images, (coords + 30, labels)).logits
    assert (padded - promptless).abs().amax(dim=(1, 2, 3)).min() > 1e-5
    torch.testing.assert_close(elsewhere, padded, rtol=0, atol=0)
    torch.testing.assert_close(padded, official(predictor, (coords, labels)), rtol=0, atol=1e-5)


def test_an_image_without_marks_does_not_touch_its_neighbours(
    nano: Segmenter, images: Tensor, masks: NDArray[np.bool_]
) -> None:
    some = masks.copy()
    some[1] = False
    full, partial = drawn(PAPER_MODES["5 points"], masks), drawn(PAPER_MODES["5 points"], some)
    with torch.no_grad():
        before, after = nano(images, full).logits, nano(images, partial).logits
    torch.testing.assert_close(after[[0, 2]], before[[0, 2]], rtol=0, atol=0)
