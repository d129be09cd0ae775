"""A photograph of any size through a model of square frames: as one frame, or as overlapping tiles of a finer image."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from sam2lora.datasets import OUTSIDE, Native, Pair, to_native
from sam2lora.datasets.field_of_view import field_of_view
from sam2lora.datasets.geometry import crop_box, letterbox
from sam2lora.datasets.pairs import Bits, Pixels

Logits = NDArray[np.float32]
_OVERLAP = 4  # neighbours share a quarter of a tile


@dataclass(frozen=True)
class View:
    """A photograph as a model sees it: n tiles of S x S pixels, and the way back.

    ``frames``: (n, S, S, 3) uint8; ``corners``: top and left of each in the square image of ``side`` pixels that they
    are cut from; ``native``: field of view, crop and way back, with an empty mask.
    """

    frames: Pixels
    corners: tuple[tuple[int, int], ...]
    side: int
    native: Native

    def joined(self, logits: Logits) -> Logits:
        """The logits (H, W) of the photograph from those of its tiles (n, S, S): blended, resized, uncropped."""
        return to_native(blend(logits, self.corners, self.side), self.native)


def view(image: Pixels, size: int, finer: float = 1.0, fov: Bits | None = None) -> View:
    """What a model of ``size`` pixels sees of ``image`` (H, W, 3), whose field of view is computed if ``fov`` is None.

    ``finer=1``: one frame as in training, where the longer side of the field of view is brought to ``size`` pixels.
    ``finer=k > 1``: that side is brought to ``k * size`` pixels, but never beyond the image's own pixels nor below
    ``size``, and covered by tiles of ``size`` pixels that overlap by a quarter or more. Structures then appear up to k
    times wider than those that the model was trained on: thin ones are resolved, wide ones may be missed.
    """
    if finer < 1:
        raise ValueError(f"Tiles must not be coarser than in training, but finer is {finer}: use 1 or more.")
    fov = field_of_view(image) if fov is None else fov
    top, left, bottom, right = crop_box(fov)
    side = max(size, min(round(finer * size), max(bottom - top, right - left)))
    square, _, native = letterbox(Pair(image, np.zeros_like(fov), fov), side)
    corners = tuple((y, x) for y in starts(native.content[0], size) for x in starts(native.content[1], size))
    frames = np.stack([square[y : y + size, x : x + size] for y, x in corners])
    return View(frames, corners, side, native)


def starts(length: int, size: int) -> list[int]:
    """Where tiles of ``size`` begin that cover ``length``: evenly spread, overlapping by a quarter or more."""
    if length <= size:
        return [0]
    count = 1 + math.ceil((length - size) / (size - size // _OVERLAP))
    return [round(start) for start in np.linspace(0, length - size, count)]


def blend(logits: Logits, corners: tuple[tuple[int, int], ...], side: int) -> Logits:
    """One map (side, side) from tiles (n, S, S): their mean, weighted by a window that fades towards their edges.

    The window rises as a squared sine over the overlap and is positive everywhere, so every covered pixel is a
    convex combination of what the tiles say of it. What no tile covers, padding, is ``OUTSIDE``.
    """
    size = logits.shape[-1]
    ramp = np.sin(np.pi / 2 * (np.arange(size) + 0.5) / max(1, size // _OVERLAP)) ** 2
    rise = np.where(np.arange(size) < size // _OVERLAP, ramp, 1.0)
    window = np.outer(rise * rise[::-1], rise * rise[::-1])
    total, weight = np.zeros((side, side)), np.zeros((side, side))
    for tile, (top, left) in zip(logits, corners, strict=True):
        place = np.s_[top : top + size, left : left + size]
        total[place] += window * tile
        weight[place] += window
    covered = weight > 0
    return np.where(covered, total / np.where(covered, weight, 1.0), OUTSIDE).astype(np.float32)


@torch.no_grad()
def logits_of(model: Callable[[Tensor], Tensor], frames: Pixels, device: str, batch_size: int) -> Logits:
    """The logits (n, S, S) of ``frames`` (n, S, S, 3), resized from the model's stride as an evaluation does it."""
    found = []
    for begin in range(0, len(frames), batch_size):
        images = torch.from_numpy(frames[begin : begin + batch_size]).to(device).permute(0, 3, 1, 2).float() / 255
        logits = interpolate(model(images).float(), size=frames.shape[1:3], mode="bilinear", align_corners=False)
        found.append(logits[:, 0].cpu())
    return np.asarray(torch.cat(found))
