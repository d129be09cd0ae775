"""The objective: what a batch is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sam2lora.auxiliary import Auxiliary
from sam2lora.losses import Loss
from sam2lora.models.segmenter import Batch, Features, Prediction
from sam2lora.weighted_loss import WeightedLoss, numbered


class Terms(NamedTuple):
    """The terms of an objective but for their weights: losses of the masks, then auxiliary ones of weight 1."""

    losses: tuple[Loss, ...]
    auxiliary: tuple[Auxiliary, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each term: the kind of its loss, numbered from the second of a kind on."""
        return numbered([term.kind for term in (*self.losses, *self.auxiliary)])


def terms_of(loss: WeightedLoss, auxiliary: Sequence[Auxiliary]) -> tuple[Terms, Tensor]:
    """The terms of an objective, and their weights (terms,) in float64."""
    weights = [*loss.weights.values(), *(term.weight for term in auxiliary)]
    terms = Terms(loss.losses, tuple(replace(term, weight=1.0) for term in auxiliary))
    return terms, torch.tensor(weights, dtype=torch.float64)


class Objective(NamedTuple):
    """``total`` (N,): what is minimised, of each image; ``values`` (terms, N): the unweighted losses in it."""

    total: Tensor
    values: Tensor


def objective(terms: Terms, weights: Tensor, prediction: Prediction, features: Features, batch: Batch) -> Objective:
    """What N images are trained on. ``weights``: (terms, N), or (terms, 1) for equal ones of all images.

    The logits are resized to the masks. ``features``, and of the batch all but its masks, is for auxiliary losses.
    """
    logits = prediction.logits.to(torch.promote_types(prediction.logits.dtype, torch.float32))
    logits = F.interpolate(logits, size=batch.masks.shape[-2:], mode="bilinear", align_corners=False)
    segmentation = [loss(logits, batch.masks) for loss in terms.losses]
    resized = prediction._replace(logits=logits)
    values = torch.stack(segmentation + [term(resized, features, batch) for term in terms.auxiliary])
    return Objective((weights.to(values.dtype) * values).sum(0), values)
