"""Marks: what a prompt comes to for one image, as points with labels, and many of them as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sam2lora.transfers import to_device

ON, BESIDE, TOP_LEFT, BOTTOM_RIGHT, PADDING = 1, 0, 2, 3, -1
"""SAM's labels: a point on the object, one beside it, the corners of a box, and a place that is left empty."""

Marks = tuple[NDArray[np.float32], NDArray[np.int32]]
"""Coordinates (P, 2) float32, x = column before y = row, and labels (P,) int32.

An integer coordinate names the centre of a pixel; SAM's prompt encoder adds the half pixel itself. A place that an
image cannot fill is (0, 0) with the label -1.
"""


def padded(points: NDArray[np.float32], label: int, count: int) -> Marks:
    """``points`` (n, 2), all of one ``label``, with padding up to ``count`` places."""
    coords = np.zeros((count, 2), np.float32)
    labels = np.full(count, PADDING, np.int32)
    coords[: len(points)], labels[: len(points)] = points, label
    return coords, labels


def joined(*marks: Marks) -> Marks:
    """All ``marks`` of one image in one, in the order given."""
    coords, labels = zip(*marks, strict=True)
    return np.concatenate(coords), np.concatenate(labels)


def as_tensors(drawn: Sequence[Marks | None], device: str) -> tuple[Tensor, Tensor] | None:
    """The marks of N images as coordinates (N, P, 2) and labels (N, P) on ``device``; None if they have no prompt."""
    marks = [each for each in drawn if each is not None]
    if not marks:
        return None
    coords, labels = (torch.from_numpy(np.stack(parts)) for parts in zip(*marks, strict=True))
    return to_device(coords, device), to_device(labels, device)
