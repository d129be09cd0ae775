"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from typing import Any

import psutil
import torch

from harness.record import provenance


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
