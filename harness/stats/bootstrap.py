"""The pigeonhole bootstrap: replicates and patients are resampled, independently of each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.stats.crossed_variance import clusters, equal_shares, weights
from harness.stats.scores import Floats, Pair

RESAMPLES = 1999


def pigeonhole(
    values: Sequence[Floats],
    pairs: Sequence[Pair],
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    shares: Sequence[Floats] | None = None,
) -> tuple[Floats, Floats]:
    """(...), (...): percentile interval of the mean over replicates, patients and targets (Owen 2007).

    ``values`` and ``shares``: as `crossed_variance.crossed` takes them. Replicates that share seeds or folds
    are drawn by seed and by fold. Each axis of n gives n - 1 draws, which makes the variance of a mean unbiased (Rao
    & Wu 1988); even so the interval is too narrow for few replicates, since its tails are not those of a t. It
    counts what is drawn anew in every cell more than once, which widens it a little. It is a check on the interval
    of ``effects``; no verdict uses it.
    """
    drawn = np.broadcast_to(weights(pairs), (resamples, len(pairs)))
    for codes in clusters(pairs).values():
        drawn = drawn * _draws(int(codes.max()) + 1, resamples, rng)[:, codes]
    total = drawn.sum(axis=1)
    drawn, kept = drawn[total > 0.0], total[total > 0.0]
    means = np.zeros((*values[0].shape[:-2], len(kept)))
    for value, share in zip(values, equal_shares(values) if shares is None else shares, strict=True):
        patients = _draws(value.shape[-1], len(kept), rng) * (float(share.sum()) / (value.shape[-1] - 1))
        means += np.einsum("br,...rp,bp->...b", drawn / kept[:, None], value, patients, optimize=True)
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=-1)
    return low, high


def _draws(count: int, resamples: int, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """(resamples, count): how often each of ``count`` is drawn in ``count`` - 1 draws."""
    drawn = rng.integers(count, size=(resamples, count - 1)) + count * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * count).reshape(resamples, count)
