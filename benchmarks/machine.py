"""What a figure was measured on, and where it is written."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import torch

from harness.record.provenance import provenance


def machine() -> dict[str, Any]:
    """Processor, memory in GiB, GPU, versions and the time of the measurement."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "cpus": len(os.sched_getaffinity(0)),
        "processor": platform.processor() or platform.machine(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_at_start": round(os.getloadavg()[0], 2),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        **provenance(),
    }


def save(result: Mapping[str, Any], path: Path) -> None:
    """``result`` as JSON; folders on the way are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
