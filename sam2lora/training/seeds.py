"""Seeds that are derived from a replicate, one for each purpose."""

from __future__ import annotations

from sam2lora.choice import digest
from sam2lora.config import Replicate


def derived(replicate: Replicate, *what: object) -> int:
    """A seed for one purpose, 62 bits: equal for equal replicates, unrelated between purposes."""
    return int(digest(replicate, [str(part) for part in what]), 16) >> 2
