"""What a training step asks of the host: kernels to launch, and waits for the device."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.counting import Tally
from benchmarks.gpu.bench import PRECISIONS, Bench, Name, Precision, config, lines
from benchmarks.gpu.lines import Law, Line, Value
from benchmarks.gpu.timing import Step, case, company, phases

_PACKS = (0, 2, 8)
_STEP = "one step"
_LAUNCHES = ("cudaLaunch", "cuLaunch", "cudaGraphLaunch")
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


def launches(bench: Bench) -> Iterator[Line]:
    """For a lone trial and packs: launches and waits of a step, as the driver saw them and as its operations say.

    The law is that the host waits for nothing in a step.
    """
    yield from lines(bench, [
        (case(name, size, precision, trials), partial(_counted, bench, name, size, precision, trials))
        for name, size in bench.form.usual for precision in reversed(PRECISIONS) for trials in _PACKS
    ])  # fmt: skip


def _counted(bench: Bench, name: Name, size: int, precision: Precision, trials: int) -> Iterator[Line]:
    group = company(bench, config(name, size, precision=precision), trials)
    group.epoch(2)
    values = group.within_step(partial(_operations, bench))
    if bench.cuda:
        values |= group.within_step(partial(_driver, bench))
    why = group.within_step(partial(_waits, bench))
    yield Law(case(name, size, precision, trials), why is None, {**values, "waits for": why})


def _operations(bench: Bench, step: Step) -> dict[str, Value]:
    """By the operations of PyTorch, on any device."""
    with Tally(bench.device.partition(":")[0]) as tally:
        step()
    return {
        "launches by operations": tally.launches,
        "waits by operations": len(tally.waits),
        "copies by operations": tally.copies,
    }


def _driver(bench: Bench, step: Step) -> dict[str, Value]:
    """By the calls of CUDA, and how long its kernels keep the device busy."""
    seconds = sum(phases(bench, step).values())
    bench.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        with record_function(_STEP):
            step()
        bench.synchronize()
    assert profiled.profiler is not None
    return {**counts(profiled.profiler.kineto_results.events()), "step ms": 1000 * seconds}


def counts(events: Sequence[Any]) -> dict[str, Value]:
    """Of the profiler's ``events``: calls while the step ran on the host, and work of the device, whenever it ran."""
    on_host = [event for event in events if event.device_type() == DeviceType.CPU]
    (step,) = [event for event in on_host if event.name() == _STEP]
    called = [event.name() for event in on_host if step.start_ns() <= event.start_ns() <= step.end_ns()]
    # A range that the host has named is shown on the device as well, under the same name.
    named = {event.name() for event in on_host}
    done = [event for event in events if event.device_type() == DeviceType.CUDA and event.name() not in named]
    return {
        "launches": sum(name.startswith(_LAUNCHES) for name in called),
        "kernels": sum(not event.name().startswith(("Memcpy", "Memset")) for event in done),
        "waits": sum(name.startswith(_WAITS) or name == "cudaMemcpy" for name in called),
        "copies to the device": sum(event.name().startswith("Memcpy HtoD") for event in done),
        "copies to the host": sum(event.name().startswith("Memcpy DtoH") for event in done),
        "device busy ms": sum(event.duration_ns() for event in done) / 1e6,
    }


def _waits(bench: Bench, step: Step) -> str | None:
    """What the host would wait for in a step; None: for nothing."""
    if not bench.cuda:
        with Tally("cpu") as tally:
            step()
        return ", ".join(dict.fromkeys(tally.waits)) or None
    step()
    bench.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    except RuntimeError as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{str(error).partition(chr(10))[0]} ({Path(where.filename).name}:{where.lineno}, {where.line})"
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return None
