"""Auxiliary losses: what a trial is trained on besides the segmentation loss of its masks.

A choice has a ``weight`` above 0, says with ``reads_iou`` whether it needs the model's guess of the IoU, and maps the
`Prediction` (its logits resized to the masks), the `Features` and the `Batch` of N images to one value per image (N,).
A value depends on no other image of the batch, and is logged as ``loss/<kind>``, unweighted.

One that trains weights of its own also offers ``sites(backbone)`` and ``place(on)``, as an adapter does.
"""

from __future__ import annotations

from sam2lora.auxiliary.iou_error import IoUError

Auxiliary = IoUError

__all__ = ["Auxiliary", "IoUError"]
