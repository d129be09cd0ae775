"""What this process may use of its machine: CPU cores and memory, within the limits of its container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import psutil

MEMBERSHIP = Path("/proc/self/cgroup")
"""The control groups of this process: a line for each controller (version 1), and one without a name (version 2)."""
GROUPS = Path("/sys/fs/cgroup")
"""Where the system keeps the limits of control groups, by which containers and Slurm share a machine."""


def usable_cores() -> int:
    """Physical cores that this process may use, at least 1: those of its affinity, and whole ones of its CPU quota."""
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    process = psutil.Process()
    affinity = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else cores  # macOS has none
    return max(1, int(min(cores, affinity, *_cpu_quotas())))


def free_memory() -> int:
    """Bytes that this process may still take: what the machine has free, or less where a group has less left."""
    return max(0, min([psutil.virtual_memory().available, *_memory_left()]))


def _cpu_quotas() -> Iterator[float]:
    """CPUs' worth of time that each limited group of this process may use, a fraction where it is so."""
    for group in _groups("cpu"):
        quota, period = [*_words(group / "cpu.max"), "max", ""][:2]
        if quota == "max":
            quota, period = [*_words(group / "cpu.cfs_quota_us"), *_words(group / "cpu.cfs_period_us"), "-1", ""][:2]
        if quota.isdecimal():
            yield int(quota) / int(period)


def _memory_left() -> Iterator[int]:
    """Bytes that each limited group of this process may still take: cached files give way, so they count as free."""
    names = (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    )
    for group in _groups("memory"):
        for limit, usage, cached in names:
            match _words(group / limit), _words(group / usage):
                case [most], [taken] if most.isdecimal():
                    stat = _words(group / "memory.stat")
                    counts = dict(zip(stat[::2], stat[1::2], strict=True))
                    yield int(most) - int(taken) + int(counts.get(cached, 0))


def _groups(controller: str) -> Iterator[Path]:
    """The folders of the groups that limit this process: its group and those above it, as far as they can be seen."""
    for line in (_text(MEMBERSHIP) or "").splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        group = PurePosixPath(name)
        for part in (group, *group.parents):
            yield GROUPS / (controller if controllers else "") / part.relative_to("/")


def _words(path: Path) -> list[str]:
    return (_text(path) or "").split()


def _text(path: Path) -> str | None:
    """The content of a file; None where there is none, as in a group without this limit."""
    with suppress(OSError):
        return path.read_text()
    return None
