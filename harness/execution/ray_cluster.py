"""Ray, started on this machine or joined: who can reach it, and which engines live in it."""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import signal
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray._common.utils import get_default_ray_temp_dir
from ray._private import ray_constants
from rich.console import Console

from harness.errors import ClusterError
from harness.execution.engine_actor import EngineActor
from harness.execution.slots import Slots, spread
from sam2lora.cli.options import refuse
from sam2lora.environment import set_defaults, unset_empty, variable
from sam2lora.resources import usable_cores

# Loggers of Ray's that write files nobody reads, a check that would refuse an outcome without a score, and how its
# workers allocate.
_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "3600",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_DEDUP_LOGS": "1",
    # glibc gives every large tensor's pages back and asks for them again, a twentieth of a training step.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
}
_PLACES = ("RAY_TMPDIR", "TMPDIR")  # where Ray keeps sockets and logs; it takes an empty one for the current folder
_OBJECT_STORE_BYTES = 128 * 2**20  # orders and results are a few kilobytes; images are memory-mapped files


_FAREWELL = 20.0  # seconds that a run gets to end by itself when Ray has died; a healthy one needs five
THIN_CPUS = 0.01  # what a trial's actor takes whose engine is elsewhere: Ray wants to see something
RESTARTS = 3
"""How often an engine that died is started again; its trials resume from their last epochs."""


@dataclass(frozen=True)
class Cluster:
    """A Ray that runs: the ``slots`` of its machines, and the names of its ``engines``, none where slots have none."""

    slots: Slots
    engines: tuple[str, ...]


@contextmanager
def cluster(slots: Slots) -> Iterator[Cluster]:
    """Ray, `running` for the time of a run with ``slots``, and with its engines.

    On a cluster that ``RAY_ADDRESS`` names, which machine an engine runs on is up to Ray.
    """
    with running(max(1, round((slots.engines or slots.concurrent) * slots.cpus))):
        if variable("RAY_ADDRESS"):
            slots = spread(slots, ray.cluster_resources())
        # Ray may still know the engines of the study before by their names.
        study = uuid.uuid4().hex[:8]
        names = tuple(f"engine-{study}-{number}" for number in range(slots.engines))
        engines = _start_engines(slots, names)
        yield Cluster(slots, names)
        del engines


@contextmanager
def running(cpus: int | None = None) -> Iterator[None]:
    """Ray with ``cpus`` (None: all cores of this machine), or the cluster that ``RAY_ADDRESS`` names.

    What runs within another block of this kind has that one's: a command with many studies starts Ray once, since a
    process that starts it again spends seconds, and now and then dies of what the first has left behind. Raises
    ``ClusterError`` when neither is to be had.
    """
    if ray.is_initialized():
        yield
        return
    set_defaults(_SETTINGS)
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    unset_empty("RAY_ADDRESS", *_PLACES)
    address = variable("RAY_ADDRESS")
    ray._private.worker.print_to_stdstream = _log_lines
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        else:
            _start(cpus or usable_cores())
    except Exception as error:  # Ray raises just that when its node takes longer than the 30 s it is given
        raise ClusterError(_unavailable(address, error)) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminated)  # Ray's own handler prints a stack trace and aborts
    ended = threading.Event()
    threading.Thread(target=_watch, args=(ended,), name="watch-ray", daemon=True).start()
    try:
        yield
    finally:
        ray.shutdown()
        ended.set()


def _watch(ended: threading.Event) -> None:
    """End this process where Ray has died and what waits for it does not return: C++ hears neither signal nor error."""
    while not ended.wait(1.0):
        try:
            check_alive()
        except ClusterError as error:
            if not ended.wait(_FAREWELL):
                os._exit(refuse(Console(stderr=True), error))


def _start(cpus: int) -> None:
    """Start Ray here, reachable from this machine alone, and only for those who know its token.

    The token is a new one, unless the environment has one, and is kept in the memory of Ray's processes.
    """
    if variable("RAY_AUTH_TOKEN") is None and variable("RAY_AUTH_TOKEN_PATH") is None:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    clusters = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False  # without clusters a node has the address 127.0.0.1, and listens there
    try:
        ray.init(
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=_OBJECT_STORE_BYTES,
            configure_logging=True,
            runtime_env=_interpreter(),
        )
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = clusters


def _log_lines(lines: dict[str, Any], ignore_prefix: bool) -> None:
    """Keep what Ray prints of processes that died, twenty lines of their logs each, off the terminal."""
    logging.getLogger("ray").debug("\n".join(lines["lines"]))


def check_alive() -> None:
    """Raise ``ClusterError`` where a process of the Ray that was started here has died, and Ray with it."""
    node = ray._private.worker._global_node  # none once Ray was shut down
    dead = [name for name, _ in node.dead_processes()] if node else []
    if dead:
        raise ClusterError(
            f"Ray must run as long as trials do, but its process {dead[0]} died, as when it is killed or memory runs "
            f"out: run the same command again to continue from the last epoch of every trial; what was finished is "
            f"kept."
        )


def check_sockets() -> None:
    """Raise ``ClusterError`` where the folder in which Ray would start here is too long for the names of its sockets.

    The system allows 107 bytes, on macOS 103.
    """
    if variable("RAY_ADDRESS"):
        return
    unset_empty(*_PLACES)
    folder, limit = get_default_ray_temp_dir(), 103 if sys.platform == "darwin" else 107
    room = limit - len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
    if len(os.fsencode(folder)) > room:
        raise ClusterError(
            f"The folder of Ray's sockets must have a path of {room} bytes at most, but {folder} has "
            f"{len(os.fsencode(folder))}: set RAY_TMPDIR to a folder with a shorter path, such as /tmp."
        )


def _interpreter() -> dict[str, str] | None:
    """Ray's setting for workers whose interpreter lies in a folder such as ``my lab``; Ray pastes it into a shell."""
    quoted = shlex.quote(sys.executable)
    return None if quoted == sys.executable else {"py_executable": quoted}


def _unavailable(address: str | None, error: Exception) -> str:
    if address:
        return (
            f"The Ray cluster that $RAY_ADDRESS names must answer, but {address} does not ({error}): correct "
            f"the address, or unset it to have Ray started here."
        )
    if isinstance(error, OSError):
        return (
            f"Ray must be able to write into its folder {get_default_ray_temp_dir()} and into the home folder, but "
            f"cannot ({error}): set RAY_TMPDIR and HOME to folders that you can write."
        )
    return (
        f"Ray must start on this machine within the 30 s that it gives itself, but did not ({error}): run the same "
        f"command again when the machine is less busy, or name a running cluster in $RAY_ADDRESS."
    )


def _start_engines(slots: Slots, names: Sequence[str]) -> list[Any]:
    """Engines of these names, which live as long as their handles do."""
    cpus = max(slots.cpus - slots.residents * THIN_CPUS, THIN_CPUS)  # the rest is for the actors of its residents
    how = {"num_cpus": cpus, "num_gpus": slots.gpus, "max_restarts": RESTARTS, "max_task_retries": 1}
    threads = 2 * slots.residents + 2  # one for each resident that asks, and one for each that leaves
    actor = ray.remote(EngineActor)
    return [
        actor.options(name=name, max_concurrency=threads, scheduling_strategy="SPREAD", **how).remote()
        for name in names
    ]
