"""What the device is, and what else it is busy with."""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

_ASKED = ("clocks.sm", "clocks.mem", "utilization.gpu", "memory.used", "temperature.gpu", "power.draw")
_PATIENCE = 10.0
"""Seconds that nvidia-smi may take to answer."""


@dataclass(frozen=True)
class NoGpu:
    """torch can use no GPU here, and why, in its words."""

    why: str


def describe() -> dict[str, Any] | NoGpu:
    """The GPU, its memory in MiB and its software. Must run in a process that forks no other that uses the GPU."""
    before = {"load": load(), "others": others()}  # torch makes this process one that computes on the device
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        found = torch.cuda.get_device_properties(0)
        free, total = torch.cuda.mem_get_info(0)  # takes some itself, which a full device refuses
    except (RuntimeError, AssertionError) as error:  # the latter where torch is built without CUDA
        return NoGpu(" ".join(str(error).split()))
    return {
        "name": found.name,
        "capability": f"{found.major}.{found.minor}",
        "multiprocessors": found.multi_processor_count,
        "memory_mib": round(total / 2**20),
        "free_mib": round(free / 2**20),
        "driver": _asked(("driver_version",)).get("driver_version", "nvidia-smi does not say"),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "bfloat16": torch.cuda.is_bf16_supported(),
        "clocks": _asked(("clocks.max.sm", "clocks.max.mem", "pstate")),
        "throttled": _asked(("clocks_event_reasons.active",)).get("clocks_event_reasons.active"),
        **before,
    }


def load() -> dict[str, float]:
    """Clocks in MHz, utilisation in %, memory in MiB, temperature in C, power in W; nothing without nvidia-smi."""
    return {name: number for name, text in _asked(_ASKED).items() if (number := _number(text)) is not None}


def others() -> int:
    """How many processes compute on the device."""
    return len(_smi("--query-compute-apps=pid").split())


def summary(samples: Sequence[dict[str, float]]) -> dict[str, list[float]]:
    """The least, the median and the largest of each figure of ``load``."""
    names = dict.fromkeys(name for sample in samples for name in sample)
    by_name = {name: [sample[name] for sample in samples if name in sample] for name in names}
    return {name: [min(seen), statistics.median(seen), max(seen)] for name, seen in by_name.items()}


def _asked(names: Sequence[str]) -> dict[str, str]:
    first = _smi(f"--query-gpu={','.join(names)}").partition("\n")[0]
    return dict(zip(names, (part.strip() for part in first.split(",")), strict=False)) if first else {}


def _smi(question: str) -> str:
    """What nvidia-smi answers; nothing where it is missing, fails or hangs."""
    try:
        return subprocess.run(
            ["nvidia-smi", f"--id={_first()}", question, "--format=csv,noheader,nounits"],
            capture_output=True, text=True, errors="replace", check=True, timeout=_PATIENCE,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""


def _first() -> str:
    """Torch's first device as nvidia-smi names it: by its number, or by the name that the environment gives it."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip() or "0"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # "[N/A]", where a device has no such figure
        return None
