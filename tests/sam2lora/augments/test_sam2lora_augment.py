"""SAM2LoRA's augmentation: what it does how often, and that mask and image stay together."""

from __future__ import annotations

import torch

from sam2lora.augments import Sam2Lora

AUGMENT = Sam2Lora()
SEEDS = range(200)


def frame(side: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    """A lit frame (3, S, S) without symmetry whose brightest part is the mask (S, S)."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    mask = ((rows - side * 0.4) ** 2 + (columns - side * 0.6) ** 2 < (side * 0.25) ** 2).to(torch.uint8)
    return (90 + 120 * mask).expand(3, side, side).contiguous(), mask


def flips(mask: torch.Tensor) -> list[torch.Tensor]:
    return [torch.flip(mask, dims) for dims in ((), (0,), (1,), (0, 1))]


def test_in_half_of_the_cases_only_flips_move_the_mask_and_each_is_as_frequent() -> None:
    image, mask = frame()
    found = [[torch.equal(AUGMENT(image, mask, seed)[1], flipped) for flipped in flips(mask)] for seed in SEEDS]
    assert all(sum(each) <= 1 for each in found)
    assert 75 < sum(map(sum, found)) < 125
    assert all(10 < count < 42 for count in map(sum, zip(*found, strict=True)))


def test_in_half_of_the_cases_the_colours_stay() -> None:
    """A mask that only flips tells how the image would look; blur and jitter show as other grey values."""
    image, mask = frame()
    same = changed = 0
    for seed in SEEDS:
        moved, cover = AUGMENT(image, mask, seed)
        if any(torch.equal(cover, flipped) for flipped in flips(mask)):
            kept = torch.equal(moved, 90 + 120 * cover.expand(3, -1, -1))
            same, changed = same + kept, changed + (not kept)
    assert 0.35 < same / (same + changed) < 0.65


def test_mask_and_image_move_alike_and_the_mask_keeps_its_values() -> None:
    image, mask = frame()
    for seed in range(60):
        moved, cover = AUGMENT(image, mask, seed)
        assert set(cover.unique().tolist()) <= {0, 1}
        assert ((moved.float().mean(0) > 150) ^ (cover > 0)).float().mean() < 0.03


def test_the_frame_keeps_its_side_whatever_it_is() -> None:
    for side in (32, 64, 96):
        image, mask = AUGMENT(*frame(side), 3)
        assert (image.shape, mask.shape) == ((3, side, side), (side, side))


def test_the_affine_map_shrinks() -> None:
    """Where the geometry acts at all, at most 0.8 of each side is left: the lit area falls to 64 % or less."""
    image, mask = frame()
    for seed in range(60):
        moved, cover = AUGMENT(image, mask, seed)
        if not any(torch.equal(cover, flipped) for flipped in flips(mask)):
            assert (moved.sum(0) > 100).float().mean() < 0.7
