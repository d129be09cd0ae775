"""Whether two networks of vessels have the same branches."""

from __future__ import annotations

from math import nan

import cv2
import numpy as np
from skimage.morphology import skeletonize

from sam2lora.metrics.arrays import Mask


def cldice(predicted: Mask, mask: Mask, fov: Mask) -> float:
    """Centreline Dice (Shit et al. 2021, eq. 1 to 3, with skeletons thinned to one pixel), all (H, W).

    The harmonic mean of two shares: of the prediction's skeleton that lies on the mask, and of the mask's skeleton
    that lies on the prediction. Both masks are cut to ``fov`` first. 0 where both shares are 0; 1 if both masks are
    empty; NaN if one of them has no skeleton, or without a pixel.

    Thinning (Zhang and Suen 1984) peels from the north-west and the south-east in turn, so that the mirrored images
    of a pair can score differently by some thousandths.
    """
    predicted, mask = predicted & fov, mask & fov
    if not predicted.any() and not mask.any():
        return 1.0 if fov.any() else nan
    precision, sensitivity = _share(predicted, mask), _share(mask, predicted)
    both = precision + sensitivity
    return 2 * precision * sensitivity / both if both != 0 else 0.0


def _share(mask: Mask, other: Mask) -> float:
    """The share of the skeleton of ``mask`` that lies on ``other``; NaN without a skeleton."""
    if not mask.any():
        return nan
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    window = slice(top, top + height), slice(left, left + width)
    skeleton = skeletonize(mask[window])
    length = int(np.count_nonzero(skeleton))
    return int(np.count_nonzero(skeleton & other[window])) / length if length else nan
