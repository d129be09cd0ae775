"""What metrics are computed from: logits and masks of one shape."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
Mask = NDArray[np.bool_]


class NotNumbers(ValueError):
    """A logit is NaN: the model diverged, or its input was broken."""


def checked(logits: Scores, mask: Mask, fov: Mask | None) -> Scores:
    """``logits`` itself. Raises ``ValueError`` if the shapes differ or, as ``NotNumbers``, if a logit is NaN."""
    shapes = {logits.shape, mask.shape} | (set() if fov is None else {fov.shape})
    if len(shapes) > 1:
        raise ValueError(f"Logits, mask and field of view must have one shape, but have {sorted(shapes)}.")
    if logits.size and np.isnan(logits.max()):
        raise NotNumbers("Logits must be numbers, but one is NaN: the model diverged or its input was broken.")
    return logits
