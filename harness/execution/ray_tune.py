"""Ray Tune: trials in, outcomes out."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray._common.utils import get_default_ray_temp_dir
from ray.tune import TuneError

from harness.errors import ClusterError, TooManyFailures
from harness.execution.callback import RecordTrials
from harness.execution.engine_actor import EngineActor
from harness.execution.searcher import Searcher
from harness.execution.slots import Slots, spread
from harness.execution.trainable import Trial
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


_THIN_CPUS = 0.01  # what a trial's actor takes whose engine is elsewhere: Ray wants to see something
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
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(
                num_cpus=cpus or usable_cores(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=_OBJECT_STORE_BYTES,
                configure_logging=True,
                runtime_env=_interpreter(),
            )
    except Exception as error:  # Ray raises just that when its node takes longer than the 30 s it is given
        raise ClusterError(_unavailable(address, error)) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminated)  # Ray's own handler prints a stack trace and aborts
    try:
        yield
    finally:
        ray.shutdown()


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


def run(
    searcher: Searcher, scheduler: Any, cluster: Cluster, retries: int, trainable: type[tune.Trainable] = Trial
) -> None:
    """Run trials until ``searcher`` has no more, or until SIGINT or SIGTERM.

    Then every open trial can be resumed from its last epoch.

    A trial that crashes is started again from its last epoch up to ``retries`` times. Raises ``TooManyFailures`` when
    trials crash, or proposals are infeasible, one after the other.
    """
    slots, searcher.engines = cluster.slots, cluster.engines
    shares = {"cpu": _THIN_CPUS} if cluster.engines else {"cpu": slots.cpus, "gpu": slots.gpus}
    callback = RecordTrials(searcher)
    scratch = Path(tempfile.mkdtemp(prefix="ray-tune-"))  # disposable: the record is what counts
    try:
        # Not Tuner: it pickles its whole configuration for a restore that the record makes needless.
        tune.run(
            trainable,
            name="study",
            resources_per_trial=shares,
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            max_concurrent_trials=slots.concurrent,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
            storage_path=str(scratch),
            max_failures=retries,
            raise_on_failed_trial=False,
            callbacks=[callback],
            stop=_StopOnFailure(callback.failures),
            verbose=0,
        )
    except TuneError as error:
        # Ray turns whatever a callback raises into the text of its own error; the cause is what can be acted on.
        cause = error.__context__ or error
        raise cause from cause.__cause__
    except KeyboardInterrupt:  # SIGTERM, often to Ray's processes as well: nothing can be asked of them any more
        return
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for failure in (*callback.failures, searcher.failure):
        if failure is not None:
            raise failure


def _start_engines(slots: Slots, names: Sequence[str]) -> list[Any]:
    """Engines of these names, which live as long as their handles do."""
    cpus = max(slots.cpus - slots.residents * _THIN_CPUS, _THIN_CPUS)  # the rest is for the actors of its residents
    how = {"num_cpus": cpus, "num_gpus": slots.gpus, "max_restarts": RESTARTS, "max_task_retries": 1}
    threads = 2 * slots.residents + 2  # one for each resident that asks, and one for each that leaves
    actor = ray.remote(EngineActor)
    return [
        actor.options(name=name, max_concurrency=threads, scheduling_strategy="SPREAD", **how).remote()
        for name in names
    ]


class _StopOnFailure(tune.Stopper):
    """Ends the run once there is a failure. Ray pickles it, so it holds nothing else."""

    def __init__(self, failures: list[TooManyFailures]) -> None:
        self.failures = failures

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return bool(self.failures)
