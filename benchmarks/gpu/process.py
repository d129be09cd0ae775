"""A function in a process of its own, its results as they come: a crash or a hang ends that process alone."""

from __future__ import annotations

import ctypes
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_TICK = 1.0
"""Seconds after which ``results`` looks around when no result comes."""


@dataclass(frozen=True)
class Ended:
    """How the process ended: ``why`` is None where the function returned."""

    why: str | None
    cut: bool = False


@dataclass(frozen=True)
class _Result:
    value: Any


def results(
    function: Callable[[], Iterable[Any]],
    seconds: float,
    log: Path = Path(os.devnull),
    tick: Callable[[], object] = lambda: None,
) -> Iterator[Any]:
    """What ``function`` yields in a forked process, then `Ended`. After ``seconds`` the process is killed.

    What it prints goes to the end of the file ``log``. ``tick`` is called about once a second meanwhile. The calling
    process must not have used a GPU. The process ends with the generator, and what it began in this way ends with it.
    """
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(function, sender, log))
    process.start()
    sender.close()
    until = time.monotonic() + seconds
    try:
        yield from _received(receiver, until, tick, process)
    finally:
        process.kill()
        process.join()


def _received(receiver: Connection, until: float, tick: Callable[[], object], process: Any) -> Iterator[Any]:
    while True:
        tick()
        if receiver.poll(max(min(_TICK, until - time.monotonic()), 0.0)):
            try:
                message = receiver.recv()
            except (EOFError, OSError):  # the latter where it ended within a message
                process.join()
                yield Ended(f"its process ended with {_exit(process.exitcode)}")
                return
            if isinstance(message, Ended):
                yield message
                return
            yield message.value
        elif time.monotonic() >= until:
            yield Ended("its time is over", cut=True)
            return


def _serve(function: Callable[[], Iterable[Any]], sender: Connection, log: Path) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # nothing goes on when the caller is killed
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    ended = Ended(None)
    try:
        for value in function():
            sender.send(_Result(value))
    except Exception:
        ended = Ended(traceback.format_exc())
    sender.send(ended)


def _exit(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"status {code}"
