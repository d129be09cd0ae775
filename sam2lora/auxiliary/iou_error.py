"""The error of SAM 2's quality head."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from annotated_types import Gt
from torch import Tensor

from sam2lora.choice import choice
from sam2lora.losses.counts import thresholded_iou
from sam2lora.models.segmenter import Batch, Features, Prediction


@choice
class IoUError:
    """``|predicted IoU - IoU|`` of the thresholded mask (logits > 0).

    It is what the head was pretrained to predict (Kirillov et al. 2023, SAM) and what a user of its figure gets. The
    true IoU is a constant, so the gradient flows through the prediction alone; a soft IoU would also move the mask
    towards what the head believes of it.
    """

    kind: Literal["iou"] = "iou"
    weight: Annotated[float, Gt(0)] = 1.0
    reads_iou: ClassVar[bool] = True

    def __call__(self, prediction: Prediction, features: Features, batch: Batch) -> Tensor:
        """(N,) for ``prediction.iou`` (N, 1) in [0, 1], logits and masks (N, 1, S, S)."""
        if prediction.iou is None:
            raise ValueError("IoUError needs a guess of the IoU, but the model makes none: leave it out.")
        iou = thresholded_iou(prediction.logits, batch.masks)
        return (prediction.iou[:, 0].to(iou.dtype) - iou).abs()
