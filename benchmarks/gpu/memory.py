"""How much memory a block of work takes, and work with less of it."""

from __future__ import annotations

import ctypes
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate

import psutil
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.bench import Bench
from sam2lora.training.memory import taking

_MIB = 2**20
_M_MMAP_THRESHOLD = -3  # malloc.h


def peak(bench: Bench, work: Callable[[], object]) -> float:
    """MiB of tensors that ``work`` holds at its peak, on top of what was held before."""
    taken = taking(bench.device)
    if bench.cuda:
        work()
        mib = taken()
        assert mib is not None  # a GPU counts
        return mib
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    assert profiled.profiler is not None
    events = profiled.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    held: Iterator[int] = accumulate((change for _, change in changes), initial=0)
    return max(held) / _MIB


@contextmanager
def limited(bench: Bench, mib: float) -> Iterator[None]:
    """At most ``mib`` more than now for the time of the block: what asks for more fails as on a full device."""
    bench.empty()
    if bench.cuda:
        total = torch.cuda.get_device_properties(bench.device).total_memory
        share = (torch.cuda.memory_reserved(bench.device) + mib * _MIB) / total
        torch.cuda.set_per_process_memory_fraction(min(share, 1.0), bench.device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, bench.device)
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (now, before[1]))
    ballast = list(_filling())
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 2**16)  # a tensor that is freed gives its memory back
    resource.setrlimit(resource.RLIMIT_AS, (now + int(mib * _MIB), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        ballast.clear()


def _filling() -> Iterator[bytearray]:
    """Blocks that take up what was freed before, so that a limit leaves no other room than what it says."""
    for size in (2**20, 2**16):
        with suppress(MemoryError):
            while True:
                yield bytearray(size)
