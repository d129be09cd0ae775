"""Where in a mask points are drawn."""

from __future__ import annotations

from typing import Literal, assert_never

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, uniform_filter

Region = Literal["uniform", "centre", "periphery", "density"]
"""How likely each pixel p of a mask is drawn. Let d(p) be its distance in pixels to the nearest pixel outside, where
whatever lies beyond the frame is outside: 1 at the edge and all along a line of one pixel.

- ``uniform``: all alike.
- ``centre``: in proportion to d(p)^2, so most often near the largest inscribed circle's centre, which is the one point
  that SAM is tested with (Kirillov et al. 2023, arXiv 2304.02643). Of several components the thickest gets most.
- ``periphery``: in proportion to 1 / d(p)^2, so most often at the edge.
- ``density``: in proportion to the share of the mask in a square around p, whose side is about a sixteenth of the
  frame's; so most often in thick or crowded parts, as at the crossings of vessels.

Along a line of one pixel centre and periphery are uniform. The names are SAM2LoRA's (its "general" is uniform); its
rules are others: the nearest and farthest pixels from the centroid, which may lie outside a ring or a vessel tree, and
for density the mask after an erosion by 15 pixels of 1024.
"""

_WINDOW = 32
"""The half side of density's square is the frame's side over this."""


def draw(mask: NDArray[np.bool_], count: int, region: Region, rng: np.random.Generator) -> NDArray[np.float32]:
    """At most ``count`` distinct pixels of a mask (S, S), as (n, 2) points (x, y) in row order; fewer if it has fewer.

    Without replacement, one after the other in proportion to the weights of those that are left. An empty mask and a
    ``count`` of 0 give no points and draw nothing.
    """
    pixels = np.flatnonzero(mask)
    count = min(count, len(pixels))
    if count == 0:
        return np.zeros((0, 2), np.float32)
    weights = likelihood(mask, region)
    drawn = np.sort(rng.choice(pixels, count, replace=False, p=weights, shuffle=False))
    rows, columns = np.divmod(drawn, mask.shape[1])
    return np.stack([columns, rows], axis=-1).astype(np.float32)


def likelihood(mask: NDArray[np.bool_], region: Region) -> NDArray[np.float64] | None:
    """The probability of each pixel of a mask that is not empty, in row order, to be drawn first; None: all alike."""
    match region:
        case "uniform":
            return None
        case "centre":
            weights = _depth(mask) ** 2
        case "periphery":
            weights = _depth(mask) ** -2
        case "density":
            side = 2 * max(1, mask.shape[0] // _WINDOW) + 1
            weights = uniform_filter(mask.astype(np.float64), side, mode="constant")[mask]
        case _:
            assert_never(region)
    return np.asarray(weights / weights.sum())


def _depth(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Distance of every mask pixel to the nearest pixel outside, in pixels, row order; at least 1."""
    return np.asarray(distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1][mask])
