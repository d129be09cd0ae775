"""Tensors on their way between the host and a GPU, without a wait of either for the other. On a CPU nothing is copied.

PyTorch waits for a copy unless the host's side of it is pinned memory and the call says ``non_blocking``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def sent(tensor: Tensor, device: str | torch.device) -> Tensor:
    """``tensor`` of the host on ``device``. What is queued on the device next finds it there."""
    if torch.device(device).type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def fetched(tensor: Tensor) -> Callable[[], Tensor]:
    """``tensor`` of a device on its way to the host. The call that is returned waits for it, and for nothing later."""
    host = tensor.to("cpu", non_blocking=True)  # into pinned memory
    if tensor.device.type != "cuda":
        return lambda: host
    copied = torch.cuda.current_stream(tensor.device).record_event()

    def arrived() -> Tensor:
        copied.synchronize()
        return host

    return arrived


def ahead(items: Iterator[T]) -> Iterator[T]:
    """``items``, the next one made in a thread of its own while one is in use.

    Not for a CPU, whose dropout draws from the generator that augmentation seeds and sets back.
    """
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item


def overlapped(items: Iterator[T], device: str) -> Iterator[T]:
    """``items`` of tensors on a GPU, the next one made `ahead` on a stream of its own.

    Where its maker waits for the GPU, it waits for that stream alone. Whoever takes an item does not wait on the host:
    what is queued next on the current stream runs once the item is made.
    """
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    for item, made in ahead(_on(stream, items)):
        current = torch.cuda.current_stream(device)
        current.wait_event(made)
        for tensor in _tensors(item):
            tensor.record_stream(current)  # its memory is not reused before the current stream is done with it
        yield item


def _on(stream: torch.cuda.Stream, items: Iterator[T]) -> Iterator[tuple[T, torch.cuda.Event]]:
    while True:
        with torch.cuda.stream(stream):
            item = next(items, None)
            made = stream.record_event()
        if item is None:
            return
        yield item, made


def _tensors(item: object) -> Iterator[Tensor]:
    """The tensors in tuples of tuples."""
    if isinstance(item, Tensor):
        yield item
    elif isinstance(item, tuple):
        for part in item:
            yield from _tensors(part)
