"""The sign-flip permutation test: a p-value over the replicates that assumes no distribution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.stats.crossed_variance import clusters, weights
from harness.stats.refusal import Refused
from harness.stats.scores import Floats, Pair

EXACT = 14
"""Up to so many signs all patterns are gone through (2^14)."""
DRAWN = 9999
"""Sign patterns drawn where there are more."""


def sign_flip(values: Floats, pairs: Sequence[Pair], rng: np.random.Generator) -> Floats | Refused:
    """(...): two-sided p of the hypothesis that the replicates' contrasts ``values`` (..., R) are symmetric about 0.

    The share of sign patterns whose mean is at least as far from 0 as the one seen: exact up to ``EXACT`` signs, else
    (b + 1) / (B + 1) over B drawn ones (Phipson & Smyth 2010). ``pairs``, what the R replicates are: those that share
    a fold (or a seed) vary together and have one sign; their weights are
    `crossed_variance.weights`. The images are taken as fixed: p is about these images. 1 where all values are 0.

    Refused where replicates share seeds and folds: what a seed adds keeps its sign over the folds, and what a fold adds
    over the seeds, so no pattern of signs but the two of all replicates together leaves the distribution alone.
    """
    axes = clusters(pairs)
    if len(axes) > 1:
        return Refused(
            "Sign flips need replicates that fall into independent groups",
            "these share seeds and folds",
            "read the interval, which has a part for either",
        )
    (codes,) = axes.values()
    count = int(codes.max()) + 1
    sums = (values * weights(pairs)) @ (codes[:, None] == np.arange(count)).astype(np.float64)
    if count <= EXACT:
        signs = 1.0 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    else:
        signs = rng.choice([-1.0, 1.0], size=(DRAWN, count))
    seen = np.abs(sums.sum(axis=-1))[..., None]
    flipped = np.abs(sums @ signs.T)
    # Sums of the same numbers in another order differ in their last digits.
    far = (flipped >= seen - 1e-12 * np.abs(values).max(axis=-1)[..., None]).sum(axis=-1)
    p: Floats = far / len(signs) if count <= EXACT else (far + 1.0) / (len(signs) + 1.0)
    return p


def floor(pairs: Sequence[Pair]) -> float:
    """The smallest p that ``sign_flip`` can give: with up to five independent groups of replicates it is above 0.05."""
    count = min(int(codes.max()) + 1 for codes in clusters(pairs).values())
    return 2.0 / 2**count if count <= EXACT else 1.0 / (DRAWN + 1.0)
