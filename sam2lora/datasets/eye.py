"""Whether a picture may show a fundus at all: a model finds vessels in anything, and is sure of them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sam2lora.datasets.field_of_view import lit_disc
from sam2lora.datasets.pairs import Pixels

_WORKING_SIDE = 400
_OBLONG = 3  # times the shorter side that the longer one may be; 1.5 in real photographs, 2 in pairs of them
_BLACK = 25  # of 255: the lightest hundredth of the darkest real photograph has 101
_WHITE = 200  # the median of the darkest channel; 83 in real photographs
_FLAT = 8  # levels between the 5th and the 95th percentile of the liveliest channel; 32 in real photographs
_SLACK = 8  # levels by which red may stay below green, and green below blue, in a pixel of the colour of a fundus
_WARM = 0.15  # least (red - blue) / lightest of nine in ten lit pixels; 0.30 in crops of real photographs, 0 in grey
_COLOURED = 0.8  # least share of such pixels; 0.97 in real photographs, 0.6 in one of a city


def is_flat(image: Pixels) -> bool:
    """Whether ``image`` (H, W, 3) has one colour alone, black and white among them, but for noise and small marks."""
    step = max(1, max(image.shape[:2]) // _WORKING_SIDE)
    return _spread(image[::step, ::step].reshape(-1, 3)) < _FLAT


def _spread(pixels: NDArray[np.integer]) -> float:
    """Levels between the 5th and the 95th percentile of the liveliest channel of ``pixels`` (N, 3)."""
    low, high = np.percentile(pixels, (5, 95), axis=0)
    return float((high - low).max())


def why_no_fundus(image: Pixels) -> str | None:
    """What of ``image`` (H, W, 3) RGB no photograph of a fundus has; None where it may be one.

    A picture that is a strip, black, white or of one colour, that has other colours than a fundus, or that is grey,
    wholly or in part, and has no lit disc is none. Of 228 real photographs of seven sets and as many crops of them
    none is refused, of 28 pictures of other things 24; the others are brown, or a disc.
    """
    scale = min(1.0, _WORKING_SIDE / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    disc = lit_disc(small)
    pixels = (small.reshape(-1, 3) if disc is None else small[disc]).astype(np.int16)
    red, green, blue = pixels.T
    if np.percentile(pixels.max(axis=1), 99) < _BLACK:
        return "it is black"
    if np.median(pixels.min(axis=1)) > _WHITE:
        return "it is white"
    if _spread(pixels) < _FLAT:
        return "it has one colour alone"
    if ((red >= green - _SLACK) & (green >= blue - _SLACK)).mean() < _COLOURED:
        return "its colours are not those of a fundus"
    lit = pixels.max(axis=1) > _BLACK
    if disc is None and np.percentile((red - blue)[lit] / pixels.max(axis=1)[lit], 10) < _WARM:
        return "no lit disc stands out, and it is grey or parts of it are"
    if max(image.shape[:2]) > _OBLONG * min(image.shape[:2]):
        return f"its sides are {image.shape[1]} and {image.shape[0]} pixels, so that it is a strip"
    return None
