"""Copies between the host and a GPU that make neither wait for the other. On a CPU nothing is copied.

PyTorch waits for a copy unless the host's side of it is pinned memory and the call says ``non_blocking``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def to_device(tensor: Tensor, device: str | torch.device) -> Tensor:
    """Copy ``tensor`` from the host to ``device``. Whatever is queued on the device next can use it."""
    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def to_host(tensor: Tensor) -> Callable[[], Tensor]:
    """Start copying ``tensor`` to the host; the returned function waits for the copy, and for nothing later."""
    host = tensor.to("cpu", non_blocking=True)  # into pinned memory
    if tensor.device.type != "cuda":
        return lambda: host
    copied = torch.cuda.current_stream(tensor.device).record_event()

    def wait() -> Tensor:
        copied.synchronize()
        return host

    return wait


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """Yield ``items``, preparing each in a second thread while the caller uses the one before.

    Not for a CPU, whose dropout draws from the generator that augmentation seeds and sets back.
    """
    with ThreadPoolExecutor(1) as thread:
        upcoming = thread.submit(next, items, None)
        while (item := upcoming.result()) is not None:
            upcoming = thread.submit(next, items, None)
            yield item


def prefetch_on_stream(items: Iterator[T], device: str) -> Iterator[T]:
    """Yield ``items`` of tensors on a GPU as `prefetch` does, preparing them on a second stream.

    If preparing an item waits for the GPU, it waits for that stream only. The host does not wait for an item: work that
    is queued next on the current stream starts once the item is ready.
    """
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    for item, ready in prefetch(_on(stream, items)):
        current = torch.cuda.current_stream(device)
        current.wait_event(ready)
        for tensor in _tensors(item):
            tensor.record_stream(current)  # its memory is not reused before the current stream is done with it
        yield item


def _on(stream: torch.cuda.Stream, items: Iterator[T]) -> Iterator[tuple[T, torch.cuda.Event]]:
    while True:
        with torch.cuda.stream(stream):
            item = next(items, None)
            ready = stream.record_event()
        if item is None:
            return
        yield item, ready


def _tensors(item: object) -> Iterator[Tensor]:
    """The tensors in tuples of tuples."""
    if isinstance(item, Tensor):
        yield item
    elif isinstance(item, tuple):
        for part in item:
            yield from _tensors(part)
