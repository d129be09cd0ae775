"""What an engine is asked, and what it answers. Imports neither torch nor Ray: an engine runs without the latter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sam2lora.runtime import Runtime

Ending = Literal["completed", "diverged", "out_of_memory"]
Item = dict[str, Any]
"""``{"epoch", "score", "entry", "cost", "ending", "why"}`` of an epoch; ``ending`` is None until the last one."""


@dataclass(frozen=True)
class Order:
    """One trial to run: its key, its settings and replicate as JSON, where to run, and where its files go."""

    key: str
    config: str
    replicate: str
    runtime: Runtime
    folder: str
