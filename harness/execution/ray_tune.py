"""Ray Tune: trials in, outcomes out."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import ray
import torch
from ray import tune
from ray.tune import TuneError

from harness.errors import ClusterError, Hopeless
from harness.execution.engine_actor import Shared
from harness.execution.searcher import Suggest, Tell
from harness.execution.trainable import Trial
from sam2lora import pack
from sam2lora.config import TrialConfig

# Loggers of Ray's that write files nobody reads, a check that would refuse an ending without a score, and how its
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
_OBJECT_STORE_BYTES = 128 * 2**20  # orders and results are a few kilobytes; images are memory-mapped files


RESIDENTS = 4
"""Trials that share an engine on one CPU core."""
RESIDENTS_OF_A_GPU = 8
"""Trials that share an engine on one GPU, unless the share of each is given."""
_THIN_CPUS = 0.01  # what a trial's actor takes whose engine is elsewhere: Ray wants to see something
RESTARTS = 3
"""How often an engine that died is started again; its trials go on from their last epochs."""


@dataclass(frozen=True)
class Slots:
    """How trials share a machine: ``concurrent`` at once, ``residents`` of them in one process.

    Each process has ``cpus`` cores and ``gpus`` of a GPU. With one resident it is the trial's own, else an engine.
    ``names``: of the engines that run.
    """

    concurrent: int
    cpus: float
    gpus: float
    residents: int = 1
    names: tuple[str, ...] = ()

    @property
    def engines(self) -> int:
        """How many engines that makes; 0 where every trial has a process of its own."""
        return 0 if self.residents == 1 else -(-self.concurrent // self.residents)


def slots(gpus_per_trial: float | None, packed: bool = False) -> Slots:
    """How trials share this machine.

    Without a GPU every core has a process; else every trial has ``gpus_per_trial`` of a GPU (by default all of it).
    ``packed``: trials that share a core (`RESIDENTS`) or a GPU (as many as its share allows, by default
    `RESIDENTS_OF_A_GPU`) share an engine as well. Raises ``ValueError`` when more of a GPU is asked for than the
    machine has.
    """
    cores, devices = _cores(), torch.cuda.device_count()
    usual = (1 / RESIDENTS_OF_A_GPU if packed else 1.0) if devices else 0.0
    share = usual if gpus_per_trial is None else gpus_per_trial
    if share == 0.0:
        residents = RESIDENTS if packed else 1
        return Slots(concurrent=cores * residents, cpus=1.0, gpus=0.0, residents=residents)
    if share > devices or share < 0.0 or (share > 1.0 and share != int(share)):
        raise ValueError(
            f"--gpus-per-trial must be a fraction of one GPU or a whole number of the {devices} GPUs of this machine, "
            f"but is {share}: lower it, or give 0 to run on the CPU."
        )
    if packed and share < 1.0:
        residents = int(1 / share)
        return Slots(devices * residents, cpus=max(cores / devices, 0.01), gpus=1.0, residents=residents)
    concurrent = int(devices / share)
    return Slots(concurrent=concurrent, cpus=max(cores / concurrent, 0.01), gpus=share)


def _cores() -> int:
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    return min(cores, len(psutil.Process().cpu_affinity()))


def spread(room: Slots, resources: Mapping[str, float]) -> Slots:
    """``room`` of this machine on a cluster of ``resources``, as Ray counts them: so many of it as they make machines.

    Raises ``ClusterError`` when they do not make one process.
    """
    machines = resources.get("CPU", 0.0) / _cores()
    if room.gpus:
        machines = min(machines, resources.get("GPU", 0.0) / torch.cuda.device_count())
    if machines * room.concurrent < 1:
        raise ClusterError(
            f"The Ray cluster that $RAY_ADDRESS names must have {room.cpus:g} CPUs and {room.gpus:g} GPUs for a trial, "
            f"but has {resources.get('CPU', 0.0):g} and {resources.get('GPU', 0.0):g}: add a machine, or unset it."
        )
    return replace(room, concurrent=int(room.concurrent * machines))


def packs(configs: Sequence[TrialConfig], gpus_per_trial: float | None) -> bool:
    """Whether most trials of such settings are faster in engines: on a GPU, those with LoRA.

    On a CPU what a pack saves is less than what an actor for each resident costs, but in searches of hundreds of
    trials that leave the encoder untouched (`benchmarks.packs`).
    """
    if not torch.cuda.device_count() or gpus_per_trial == 0:
        return False
    return 2 * sum(pack.pays(config, "cuda") for config in configs) > len(configs)


@contextmanager
def cluster(room: Slots) -> Iterator[Slots]:
    """Ray, `started` for the time of a run: ``room``, on a cluster that ``RAY_ADDRESS`` names `spread`.

    Every process of a room with residents is an engine, wherever in the cluster it finds its share of a machine.
    """
    with started(max(1, round((room.engines or room.concurrent) * room.cpus))):
        if os.environ.get("RAY_ADDRESS"):
            room = spread(room, ray.cluster_resources())
        # Ray may still know the engines of the study before by their names.
        study = uuid.uuid4().hex[:8]
        room = replace(room, names=tuple(f"engine-{study}-{number}" for number in range(room.engines)))
        engines = _started(room)
        yield room
        del engines


@contextmanager
def started(cpus: int | None = None) -> Iterator[None]:
    """Ray with ``cpus`` (None: all cores of this machine), or the cluster that ``RAY_ADDRESS`` names.

    What runs within another block of this kind has that one's: a command with many studies starts Ray once, since a
    process that starts it again spends seconds, and now and then dies of what the first has left behind. Raises
    ``ClusterError`` when neither is to be had.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.update({name: value for name, value in _SETTINGS.items() if name not in os.environ})
    logging.getLogger("ray").setLevel(logging.ERROR)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    address = os.environ.get("RAY_ADDRESS")
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        else:
            ray.init(
                num_cpus=cpus or _cores(),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=_OBJECT_STORE_BYTES,
                configure_logging=True,
            )
    except Exception as error:  # Ray raises just that when its node takes longer than the 30 s it is given
        raise ClusterError(_unavailable(address, error)) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, terminated)  # Ray's own handler prints a stack trace and aborts
    try:
        yield
    finally:
        ray.shutdown()


def _unavailable(address: str | None, error: Exception) -> str:
    if address:
        return (
            f"The Ray cluster that $RAY_ADDRESS names must answer, but {address} does not ({error}): mend the address, "
            f"or unset it to have Ray started here."
        )
    return (
        f"Ray must start on this machine within the 30 s that it gives itself, but did not ({error}): run the same "
        f"command again when the machine is less busy, or name a running cluster in $RAY_ADDRESS."
    )


def run(suggest: Suggest, scheduler: Any, room: Slots, retries: int, trainable: type[tune.Trainable] = Trial) -> None:
    """Run trials until ``suggest`` has no more, or until SIGINT or SIGTERM.

    Then every open trial can go on from its last epoch.

    A trial that crashes is started again from its last epoch up to ``retries`` times. Raises ``Hopeless`` when
    trials crash, or proposals are infeasible, one after the other.
    """
    hopeless: list[Hopeless] = []
    suggest.engines = room.names
    shares = {"cpu": _THIN_CPUS} if suggest.engines else {"cpu": room.cpus, "gpu": room.gpus}
    scratch = Path(tempfile.mkdtemp(prefix="ray-tune-"))  # disposable: the record is what counts
    try:
        # Not Tuner: it pickles its whole configuration for a restore that the record makes needless.
        tune.run(
            trainable,
            name="study",
            resources_per_trial=shares,
            search_alg=suggest,
            scheduler=scheduler,
            num_samples=-1,
            max_concurrent_trials=room.concurrent,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
            storage_path=str(scratch),
            max_failures=retries,
            raise_on_failed_trial=False,
            callbacks=[Tell(suggest, hopeless.append)],
            stop=_StopWhen(hopeless),
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
    if hopeless:
        raise hopeless[0]
    if suggest.hopeless is not None:
        raise suggest.hopeless


def _started(room: Slots) -> list[Any]:
    """The engines of a room, which live as long as these handles do."""
    cpus = max(room.cpus - room.residents * _THIN_CPUS, _THIN_CPUS)  # the rest is for the actors of its residents
    how = {"num_cpus": cpus, "num_gpus": room.gpus, "max_restarts": RESTARTS, "max_task_retries": 1}
    threads = 2 * room.residents + 2  # one for each resident that asks, and one for each that leaves
    actor = ray.remote(Shared)
    return [
        actor.options(name=name, max_concurrency=threads, scheduling_strategy="SPREAD", **how).remote()
        for name in room.names
    ]


class _StopWhen(tune.Stopper):
    """Ends the run once there is a reason in ``reasons``."""

    def __init__(self, reasons: list[Hopeless]) -> None:
        self.reasons = reasons

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return bool(self.reasons)
