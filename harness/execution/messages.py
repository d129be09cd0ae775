"""What an engine is asked, and what it answers. Imports neither torch nor Ray: an engine runs without the latter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sam2lora.runtime import Runtime

EpochReport = dict[str, Any]
"""``{"epoch", "score", "entry", "cost", "outcome", "why"}`` of an epoch. ``outcome`` is None until the trial ends, then
completed, diverged or out_of_memory, and ``why`` its reason in words. A ``"warning"`` is there where the trial's
checkpoint could not be used."""


@dataclass(frozen=True)
class TrialOrder:
    """One trial to run: its key, its settings and replicate as JSON, where to run, and where its files go."""

    key: str
    config: str
    replicate: str
    runtime: Runtime
    folder: str
