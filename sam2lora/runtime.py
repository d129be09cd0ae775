"""Runtime: settings that cannot change a result. Whatever can is in ``TrialConfig``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sam2lora.environment import folder


def default_cache() -> Path:
    """Where decoded images lie: ``$SAM2LORA_CACHE``, else ``~/.cache/sam2lora``. One copy serves every study."""
    return folder("SAM2LORA_CACHE", "~/.cache/sam2lora")


@dataclass(frozen=True)
class Runtime:
    """Where a trial runs and where its files lie.

    ``data``: the folder that holds the data sets (None: only procedural ones can be opened).
    ``cache``: decoded and resized images, memory-mapped by every process of the machine, and features of images.
    ``features_mib``: how much room these features may take in all (0: none are kept). A GPU computes them in every step
    (see ``sam2lora.models.feature_cache``).
    ``weights``: files of weights by the sha256 that settings name them by, as ``sam2lora.models.weights`` finds them.
    ``device``: a torch device, ``"cpu"`` or ``"cuda"``. ``threads``: CPU threads of one trial.
    """

    data: Path | None = None
    cache: Path = field(default_factory=default_cache)
    weights: Mapping[str, Path] = field(default_factory=dict, hash=False)
    device: str = "cpu"
    threads: int = 1
    features_mib: int = 2048
