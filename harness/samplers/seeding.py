"""Seeds of samplers that draw from a generator, which no record keeps."""

from __future__ import annotations


def resumed(seed: int, begun: int) -> int:
    """The seed of a sampler when ``begun`` trials are in the record: the study's own at first, another one afterwards.

    With the same seed a resumed sampler would draw once more what it drew before.
    """
    return seed if begun == 0 else (seed + 1_000_003 * begun) % 2**32
