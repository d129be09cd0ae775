"""Waiting for what is away for a while, such as a server or a lock: bounded, and never in silence."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import urlsplit

from requests.utils import get_environ_proxies
from rich.console import Console
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential

from sam2lora.cli.messages import say

T = TypeVar("T")
PATIENCE = 60.0
"""Seconds for which something that is away is waited for."""
PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306, "http": 80, "https": 443}
"""Where a server listens whose address names no port."""


def patiently(
    call: Callable[[], T],
    away: Callable[[BaseException], bool],
    what: str,
    sleep: Callable[[float], None] | None = None,
) -> T:
    """The value of ``call``, which is repeated for up to `PATIENCE` seconds while it raises an error that is ``away``.

    Prints on stderr that ``what`` is waited for, once, and when it is back. Raises the last error of ``call``.
    """
    console = Console(stderr=True)

    def announce(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            first = str(state.outcome.exception()).partition("\n")[0]
            say(console, f"Waiting up to {PATIENCE:g} s for {what}: {first}.")

    def is_over(state: RetryCallState) -> bool:
        return max(state.idle_for, state.seconds_since_start or 0.0) >= PATIENCE

    attempts = Retrying(
        retry=retry_if_exception(away),
        stop=is_over,
        wait=wait_exponential(max=5),
        before_sleep=announce,
        sleep=sleep or time.sleep,
        reraise=True,
    )
    value = attempts(call)
    if attempts.statistics["attempt_number"] > 1:
        say(console, f"Back after {attempts.statistics['delay_since_first_attempt']:.0f} s: {what}.")
    return value


def await_server(address: str, what: str, sleep: Callable[[float], None] | None = None) -> None:
    """Return as soon as a server accepts connections at ``address``, and after `PATIENCE` seconds if none does.

    What is no server's address, has no such host, or is reached through a proxy is not waited for.
    """
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:  # the call that needs the server says what is wrong
        return
    scheme = parts.scheme.partition("+")[0]
    port = port or PORTS.get(scheme)
    if parts.hostname is None or port is None or (scheme in ("http", "https") and get_environ_proxies(address)):
        return
    place = parts.hostname, port
    try:
        patiently(lambda: socket.create_connection(place, 5).close(), _refused, f"{what} at {place[0]}:{port}", sleep)
    except OSError:
        return  # the call that needs the server says what is wrong


def _refused(error: BaseException) -> bool:
    return isinstance(error, OSError) and not isinstance(error, socket.gaierror)
