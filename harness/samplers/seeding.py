"""Seeds of samplers that draw from a generator, which no record keeps."""

from __future__ import annotations


def resumed(seed: int, started: int) -> int:
    """The seed of a sampler when ``started`` trials are in the record: the study's at first, another one afterwards.

    With the same seed a resumed sampler would draw once more what it drew before.
    """
    return seed if started == 0 else (seed + 1_000_003 * started) % 2**32
