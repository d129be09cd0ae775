"""Augments: laws that each keeps, and what each does to a pixel."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import sam2lora.augments
from sam2lora.augments import Augment, Flips, Fundus, NoAugment, Sam2Lora
from sam2lora.augments.fundus import _turn
from sam2lora.choice import from_json, kinds, to_json

STRONGEST = Fundus(degrees=180.0, scale=0.5, brightness=1.0, contrast=1.0, gamma=2.0, hue=0.5)
EVERY = [NoAugment(), Flips(), Fundus(), STRONGEST, Sam2Lora()]
STILL = Fundus(degrees=0.0, scale=0.0, brightness=0.0, contrast=0.0, gamma=0.0, hue=0.0)
augments = pytest.mark.parametrize("augment", EVERY, ids=["none", "flips", "fundus", "strongest", "sam2lora"])


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """A lit circle in padding, (3, 64, 64) and (64, 64); the mask is a blob away from the centre."""
    rows, columns = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    circle = (rows - 26) ** 2 + (columns - 32) ** 2 < 25**2
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(60, 180, (3, 64, 64), generator=generator)
    blob = (rows - 18) ** 2 + (columns - 40) ** 2 < 49
    return (noise * circle).to(torch.uint8), blob.to(torch.uint8)


@augments
def test_types_and_shapes_stay(augment, pair):
    for seed in range(5):
        image, mask = augment(*pair, seed)
        assert (type(image), image.dtype, image.shape) == (torch.Tensor, torch.uint8, (3, 64, 64))
        assert (type(mask), mask.dtype, mask.shape) == (torch.Tensor, torch.uint8, (64, 64))
        assert set(mask.unique().tolist()) <= {0, 1}


@augments
def test_the_seed_alone_decides(augment, pair):
    results = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        random.seed(noise)
        np.random.seed(noise)
        results.append([augment(*pair, seed) for seed in (3, 4)])
    for (image, mask), (other, cover) in zip(*results, strict=True):
        assert torch.equal(image, other)
        assert torch.equal(mask, cover)


@augments
def test_the_global_generators_are_left_alone(augment, pair):
    torch.manual_seed(5)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    augment(*pair, 0)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert before[2] == np.random.get_state()[1].tolist()


def test_an_error_leaves_the_global_generator_alone(pair):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with pytest.raises((RuntimeError, ValueError, TypeError, IndexError)):
        Fundus()(pair[0][:, :0], pair[1], 0)
    assert torch.equal(before, torch.get_rng_state())


@augments
def test_the_inputs_are_not_changed(augment, pair):
    image, mask = pair[0].clone(), pair[1].clone()
    augment(image, mask, 1)
    assert torch.equal(image, pair[0])
    assert torch.equal(mask, pair[1])


def test_seeds_differ(pair):
    assert len({Flips()(*pair, seed)[0].numpy().tobytes() for seed in range(32)}) == 4
    assert len({Fundus()(*pair, seed)[0].numpy().tobytes() for seed in range(32)}) == 32


def test_each_flip_happens_in_half_of_the_cases(pair):
    image, mask = pair
    for dims in ((1,), (0,)):
        count = 0
        for seed in range(400):
            flipped, cover = Flips()(image, mask, seed)
            if any(torch.equal(cover, torch.flip(mask, every)) for every in (dims, (0, 1))):
                assert any(torch.equal(flipped, torch.flip(image, [d + 1 for d in every])) for every in (dims, (0, 1)))
                count += 1
        assert 160 < count < 240


def test_no_augment_is_the_identity(pair):
    image, mask = NoAugment()(*pair, 7)
    assert image is pair[0]
    assert mask is pair[1]


def test_without_ranges_only_flips_are_left(pair):
    image, mask = pair
    for seed in range(16):
        moved, cover = STILL(image, mask, seed)
        flips = [torch.flip(image, dims) for dims in ((), (1,), (2,), (1, 2))]
        assert any((moved.int() - flip.int()).abs().max() <= 1 for flip in flips)
        assert cover.sum() == mask.sum()


def test_image_and_mask_move_alike(pair):
    """An image that shows its own mask still does after any turn and scale."""
    _, mask = pair
    image = (mask * 200).expand(3, 64, 64).contiguous()
    augment = replace(STILL, degrees=40.0, scale=0.3)
    for seed in range(20):
        moved, cover = augment(image, mask, seed)
        assert ((moved[0] > 100) ^ (cover > 0)).float().mean() < 0.01
        assert 0.4 < cover.sum() / mask.sum() < 1.8


@pytest.mark.parametrize("field", ["brightness", "contrast", "gamma", "hue"])
def test_colour_changes_the_image_and_not_the_mask(field, pair):
    image, mask = pair
    changed, cover = replace(STILL, **{field: 0.5})(image, mask, 3)
    plain, same = STILL(image, mask, 3)
    assert torch.equal(cover, same)
    assert (changed.int() - plain.int()).abs().float().mean() > 1


@pytest.mark.parametrize("augment", EVERY[2:4], ids=["fundus", "strongest"])
def test_black_stays_black(augment):
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[:, 20:40, 20:40] = 150
    for seed in range(10):
        moved, _ = augment(image, torch.zeros(64, 64, dtype=torch.uint8), seed)
        assert not moved[:, :2].any()
        assert not moved[:, :, :2].any()
        assert (moved == 0).all(dim=0).sum() > 1000
    nothing = torch.zeros_like(image)
    assert not augment(nothing, nothing[0], 0)[0].any()


def with_bincount(augment: Fundus, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """The colours as they were made on the host, with a histogram by ``bincount``."""
    brightness, contrast, gamma, hue = rng.uniform(-1, 1, 4).tolist()
    light = torch.linspace(0, 1, 256).pow((1 + augment.gamma) ** gamma) * (1 + augment.brightness * brightness)
    counts = torch.bincount(image[:, ::4, ::4].flatten().int(), minlength=256)[1:]
    mean = (light[1:] * counts).sum() / counts.sum().clamp(min=1)
    table = 255 * (mean + (1 + augment.contrast * contrast) * (light - mean))
    table[0] = 0.0
    pixels = torch.index_select(table, 0, image.flatten().int()).view(3, -1)
    colours = _turn(2 * np.pi * augment.hue * hue) @ pixels
    return colours.clamp_(0, 255).add_(0.5).to(torch.uint8).view(image.shape)


@pytest.mark.parametrize("augment", EVERY[2:4], ids=["fundus", "strongest"])
def test_the_colours_are_bit_for_bit_those_that_the_host_made(augment, pair):
    for image in (pair[0], torch.zeros(3, 64, 64, dtype=torch.uint8)):
        for seed in range(8):
            expected = with_bincount(augment, image, np.random.default_rng(seed))
            assert torch.equal(augment._recoloured(image, np.random.default_rng(seed)), expected)


def test_the_hue_turns_about_the_grey_axis():
    for angle in (0.0, 0.3, -1.0, 2.5):
        turn = _turn(angle).double()
        torch.testing.assert_close(turn @ turn.T, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)
        torch.testing.assert_close(turn @ torch.ones(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
        assert turn.trace().item() == pytest.approx(1 + 2 * np.cos(angle), abs=1e-6)
    third = _turn(2 * np.pi / 3)
    torch.testing.assert_close(third @ torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0]), atol=1e-6, rtol=0)


def test_the_default_is_fast_enough():
    """At 256 pixels an image takes well under 6 ms of one thread; a busy machine is allowed twice that."""
    image = torch.randint(0, 256, (3, 256, 256), dtype=torch.uint8)
    mask = (image[0] > 200).to(torch.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = []
        for seed in range(30):
            start = time.process_time()
            Fundus()(image, mask, seed)
            seconds.append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    assert np.median(seconds) < 0.012


@pytest.mark.parametrize(
    "wrong",
    [{"degrees": -1.0}, {"scale": 0.6}, {"hue": 0.51}, {"gamma": float("nan")}, {"brightness": "0.1"}, {"blur": 1.0}],
)
def test_impossible_values_are_refused(wrong):
    with pytest.raises(ValidationError):
        Fundus(**wrong)


def test_the_union_reads_every_augment_back():
    assert list(kinds(Augment)) == ["none", "flips", "fundus", "sam2lora"]
    for augment in EVERY:
        assert from_json(Augment, to_json(augment)) == augment
    assert all(hasattr(sam2lora.augments, name) for name in sam2lora.augments.__all__)
