"""Copies between host and device, and what is made ahead on a stream of its own, with stand-ins for CUDA's streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from sam2lora.transfers import prefetch, prefetch_on_stream, to_device, to_host


def test_on_a_cpu_nothing_is_copied() -> None:
    tensor = torch.arange(3)
    assert to_device(tensor, "cpu") is tensor
    assert to_host(tensor)() is tensor


def test_one_item_is_made_ahead_in_its_turn() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1, 5):
            made.append(number)
            yield number

    stream = prefetch(items())
    assert next(stream) == 1
    assert next(stream) == 2
    stream.close()
    assert made in ([1, 2], [1, 2, 3]), "never two ahead"
    assert list(prefetch(items())) == [1, 2, 3, 4]
    assert list(prefetch(iter(()))) == []


def test_what_fails_ahead_is_raised_where_it_is_asked_for() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    stream = prefetch(items())
    assert next(stream) == 1
    with pytest.raises(OSError, match="the disk is gone"):
        next(stream)


@dataclass
class Streams:
    """What CUDA was asked for, in order, in whichever thread."""

    calls: list[str] = field(default_factory=list)

    def stream(self, name: str) -> Stream:
        return Stream(name, self)


@dataclass
class Stream:
    """A stream or, by its number, what was recorded on it."""

    name: str
    log: Streams
    recorded: int = 0

    def record_event(self) -> str:
        self.recorded += 1
        self.log.calls.append(f"{self.name} records {self.recorded}")
        return f"{self.name} {self.recorded}"

    def wait_event(self, event: str) -> None:
        self.log.calls.append(f"{self.name} waits for {event}")


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Streams:
    log = Streams()
    main = log.stream("main")

    @contextmanager
    def current(stream: Stream) -> Iterator[None]:
        log.calls.append(f"on {stream.name}")
        yield
        log.calls.append(f"off {stream.name}")

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: log.stream("side"))
    monkeypatch.setattr(torch.cuda, "stream", current)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: main)
    monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: log.calls.append(f"keeps {int(tensor)}"))
    return log


def test_what_is_made_on_a_side_stream_is_waited_for_by_the_stream_that_uses_it_alone(streams: Streams) -> None:
    def items() -> Iterator[tuple[tuple[Tensor, Tensor, None], ...]]:
        for number in (10, 20):
            streams.calls.append(f"makes {number}")
            yield ((torch.tensor(number), torch.tensor(number + 1), None),)

    taken = []
    for ((one, _, points),) in prefetch_on_stream(items(), "cuda"):
        taken.append(int(one))
        assert points is None
        streams.calls.append(f"uses {int(one)}")
    assert taken == [10, 20]
    side = [call for call in streams.calls if "side" in call.split()[:2] or call.startswith("makes")]
    turn = ["on side", "makes 10", "side records 1", "off side"]
    assert side == [*turn, "on side", "makes 20", "side records 2", "off side", "on side", "side records 3", "off side"]
    main = [call for call in streams.calls if call not in side]
    assert main == [
        "main waits for side 1", "keeps 10", "keeps 11", "uses 10",
        "main waits for side 2", "keeps 20", "keeps 21", "uses 20",
    ]  # fmt: skip


def test_a_stream_that_is_left_early_makes_nothing_more(streams: Streams) -> None:
    made: list[int] = []

    def items() -> Iterator[tuple[Tensor]]:
        for number in range(9):
            made.append(number)
            yield (torch.tensor(number),)

    stream = prefetch_on_stream(items(), "cuda")
    next(stream)
    stream.close()
    assert made in ([0], [0, 1])
