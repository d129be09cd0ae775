"""Sign flips: a p-value that needs no distribution, for what the replicates alone can say."""

from __future__ import annotations

import numpy as np

from harness.inference.cells import Floats

EXACT = 14
"""Up to so many replicates all sign patterns are gone through (2^14)."""
DRAWN = 9999
"""Sign patterns drawn where there are more."""


def sign_flip(values: Floats, rng: np.random.Generator) -> Floats:
    """(...): two-sided p of the hypothesis that the replicates' contrasts ``values`` (..., R) are symmetric about 0.

    The share of sign patterns whose mean is at least as far from 0 as the one seen: exact up to ``EXACT`` replicates,
    else (b + 1) / (B + 1) over B drawn ones (Phipson & Smyth 2010). It takes the images as given: an effect that these
    images happen to show is no accident to it. 1 where all values are 0.
    """
    count = values.shape[-1]
    if count <= EXACT:
        signs = 1.0 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
    else:
        signs = rng.choice([-1.0, 1.0], size=(DRAWN, count))
    seen = np.abs(values.mean(axis=-1))[..., None]
    flipped = np.abs(values @ signs.T) / count
    # Sums of the same numbers in another order differ in their last digits.
    far = (flipped >= seen - 1e-12 * np.abs(values).max(axis=-1)[..., None]).sum(axis=-1)
    p: Floats = far / len(signs) if count <= EXACT else (far + 1.0) / (len(signs) + 1.0)
    return p


def floor(replicates: int) -> float:
    """The smallest p that ``sign_flip`` can give: with up to five replicates it is above 0.05."""
    return 2.0 / 2**replicates if replicates <= EXACT else 1.0 / (DRAWN + 1.0)
