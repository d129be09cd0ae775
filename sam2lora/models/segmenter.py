"""Segmenter: from images and point prompts to a prediction, by way of features that the prompt plays no part in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sam2lora.backbones import Backbone
from sam2lora.models.feature_cache import FeatureCache

Points = tuple[Tensor, Tensor]
"""Point prompts: coordinates (N, P, 2), x then y in pixels of the model frame, and labels (N, P): 1 on the object,
0 beside it, -1 padding."""


class Batch(NamedTuple):
    """``images`` (N, 3, S, S) in [0, 1], their ``masks`` (N, 1, S, S) in {0, 1}, and prompts or None."""

    images: Tensor
    masks: Tensor
    points: Points | None

    @staticmethod
    def joined(batches: Sequence[Batch]) -> Batch:
        """The images of several batches in a row. Either all have prompts of equal length, or none has."""
        images, masks, points = zip(*batches, strict=True)
        prompted = [each for each in points if each is not None]
        marks = (joined([at for at, _ in prompted]), joined([labels for _, labels in prompted])) if prompted else None
        return Batch(joined(images), joined(masks), marks)


class Features(NamedTuple):
    """What the decoder reads of N images: ``image`` (N, D, h, h), the coarsest map, and ``finer`` ones, finest first.

    Of a SAM 2 these are (N, D/8, 4h, 4h) and (N, D/4, 2h, 2h). ``stages``: what the stages of its trunk gave, finest
    first, for a decoder that reads them (``reads_stages``); else empty.
    """

    image: Tensor
    finer: tuple[Tensor, ...]
    stages: tuple[Tensor, ...] = ()

    def take(self, places: Sequence[int], size: int) -> Features:
        """The batches of ``size`` images at ``places``, which may name one several times, in a row."""
        return self.map(lambda level: _taken(level, places, size))

    def map(self, change: Callable[[Tensor], Tensor]) -> Features:
        """The features with every map changed."""
        return self.rebuilt([change(level) for level in self.levels])

    @property
    def levels(self) -> tuple[Tensor, ...]:
        """All maps."""
        return (self.image, *self.finer, *self.stages)

    def rebuilt(self, levels: Sequence[Tensor]) -> Features:
        """Features of as many maps as these have, out of `levels`."""
        image, *others = levels
        return Features(image, tuple(others[: len(self.finer)]), tuple(others[len(self.finer) :]))

    def split(self, size: int) -> list[Features]:
        """The features of ``size`` images each, in their order."""
        split = (torch.split(level, size) for level in self.levels)
        return [self.rebuilt(levels) for levels in zip(*split, strict=True)]

    @staticmethod
    def joined(parts: Sequence[Features]) -> Features:
        """The features of several batches in a row."""
        return parts[0].rebuilt([joined(levels) for levels in zip(*(part.levels for part in parts), strict=True)])


class Prompts(NamedTuple):
    """What the decoder reads of N prompts: ``sparse`` tokens (N, P, D), and a ``dense`` map (N, D, h, h)."""

    sparse: Tensor
    dense: Tensor


class Stage(NamedTuple):
    """A place within the trunk: ``x`` (N, h, w, C) in front of ``block``, and what the stages before it gave."""

    x: Tensor
    block: int
    outputs: tuple[Tensor, ...]

    def take(self, places: Sequence[int], size: int) -> Stage:
        """The batches of ``size`` images at ``places``, which may name one several times, in a row."""
        x, *outputs = (_taken(level, places, size) for level in (self.x, *self.outputs))
        return Stage(x, self.block, tuple(outputs))


def joined(batches: Sequence[Tensor]) -> Tensor:
    """Batches (N, ...) in a row; one of them is not copied."""
    return batches[0] if len(batches) == 1 else torch.cat(list(batches))


def _taken(images: Tensor, places: Sequence[int], size: int) -> Tensor:
    batches = torch.split(images, size)
    return torch.cat([batches[place] for place in places])


class Prediction(NamedTuple):
    """What a decoder says of N images.

    ``logits`` (N, 1, h, h), h = S / mask_stride; ``iou`` (N, 1) in [0, 1]: its guess of the mask's IoU, None from a
    model that makes none; ``extras``: anything else that an auxiliary loss reads, by name, each (N, ...).
    """

    logits: Tensor
    iou: Tensor | None = None
    extras: Mapping[str, Tensor] = MappingProxyType({})

    def split(self, size: int) -> list[Prediction]:
        """The predictions of ``size`` images each, in their order."""
        logits = torch.split(self.logits, size)
        ious = [None] * len(logits) if self.iou is None else torch.split(self.iou, size)
        extras = {name: torch.split(extra, size) for name, extra in self.extras.items()}
        return [
            Prediction(*each, {name: parts[place] for name, parts in extras.items()})
            for place, each in enumerate(zip(logits, ious, strict=True))
        ]

    @staticmethod
    def joined(parts: Sequence[Prediction]) -> Prediction:
        """The predictions of several batches in a row: of one model, or of several that make the same outputs."""
        logits, ious, extras = zip(*parts, strict=True)
        guessed = [iou for iou in ious if iou is not None]
        named = {name: joined([each[name] for each in extras]) for name in extras[0]}
        return Prediction(joined(logits), joined(guessed) if guessed else None, named)


class Segmenter(nn.Module, ABC):
    """What is trained, evaluated and predicted with.

    ``image_size``: side S of the images in pixels; ``mask_stride``: pixels per step of the logits; ``takes_prompts``:
    whether points mean anything to it. ``cache``: where a SAM 2 looks up features that nothing attached has touched.
    """

    takes_prompts: bool
    cache: FeatureCache | None = None

    def __init__(self, backbone: Backbone, image_size: int, mask_stride: int) -> None:
        super().__init__()
        self.backbone, self.image_size, self.mask_stride = backbone, image_size, mask_stride

    @property
    @abstractmethod
    def body(self) -> nn.Module:
        """The module whose names its weights, and what an adapter adds to them, have in a file."""

    def forward(self, images: Tensor, points: Points | None = None) -> Prediction:
        """The prediction for RGB ``images`` (N, 3, S, S) in [0, 1].

        Raises ``ValueError`` for images of another shape, and for points where none are taken.
        """
        return self.decode(self.encode(images), points)

    @abstractmethod
    def encode(self, images: Tensor) -> Features:
        """The features of RGB ``images`` (N, 3, S, S) in [0, 1]."""

    def encode_shared(self, images: Tensor, places: Sequence[int], size: int) -> Features:
        """The features of the batches of ``size`` images at ``places``, which may name one several times, in a row.

        What is attached to the segmenter sees each place by itself; what lies in front of it may see an image once.
        """
        return self.encode(_taken(images, places, size))

    @abstractmethod
    def decode(self, features: Features, points: Points | None = None) -> Prediction:
        """The prediction for the features of N images, with or without points."""

    @abstractmethod
    def image_path(self) -> dict[str, nn.Parameter]:
        """The parameters that can change a prediction, by name."""

    @abstractmethod
    def statistics(self) -> dict[str, Tensor]:
        """The buffers that training changes, by name."""


class Normalised(nn.Module):
    """RGB images in [0, 1] with the mean and the standard deviation that ImageNet's encoders expect."""

    mean: Tensor
    std: Tensor

    def __init__(self, side: int) -> None:
        """``side``: of the only images that are taken, in pixels."""
        super().__init__()
        self.side = side
        self.register_buffer("mean", torch.tensor((0.485, 0.456, 0.406)).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, 3, S, S). Raises ``ValueError`` for another shape."""
        if images.ndim != 4 or images.shape[1:] != (3, self.side, self.side):
            raise ValueError(
                f"Images must be (N, 3, {self.side}, {self.side}), but got {tuple(images.shape)}: "
                f"resize them, or build the segmenter for their size."
            )
        return (images - self.mean) / self.std
