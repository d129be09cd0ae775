"""How trials share a machine: how many run at once, on which share of it, and which of them share an engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from harness.errors import ClusterError
from sam2lora.config import TrialConfig
from sam2lora.resources import usable_cores
from sam2lora.training import packing

RESIDENTS = 4
"""Trials that share an engine on one CPU core."""
RESIDENTS_OF_A_GPU = 8
"""Trials that share an engine on one GPU, unless the share of each is given."""


@dataclass(frozen=True)
class Slots:
    """How trials share a machine: ``concurrent`` at once, ``residents`` of them in one process.

    Each process has ``cpus`` cores and ``gpus`` of a GPU. It is an engine if it has several residents.
    """

    concurrent: int
    cpus: float
    gpus: float
    residents: int = 1

    @property
    def engines(self) -> int:
        """How many engines that makes; 0 where every trial has a process of its own."""
        return 0 if self.residents == 1 else -(-self.concurrent // self.residents)


def share_machine(gpus_per_trial: float | None, packed: bool = False) -> Slots:
    """How trials share this machine.

    Without a GPU every core has a process; else every trial has ``gpus_per_trial`` of a GPU (by default all of it).
    ``packed``: trials that share a core (`RESIDENTS`) or a GPU (as many as its share allows, by default
    `RESIDENTS_OF_A_GPU`) share an engine as well. Raises ``ValueError`` when more of a GPU is asked for than the
    machine has.
    """
    cores, devices = usable_cores(), torch.cuda.device_count()
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


def spread(room: Slots, resources: Mapping[str, float]) -> Slots:
    """``room`` of this machine on a cluster of ``resources``, as Ray counts them: so many of it as they make machines.

    Raises ``ClusterError`` when they do not make one process.
    """
    machines = resources.get("CPU", 0.0) / usable_cores()
    if room.gpus:
        machines = min(machines, resources.get("GPU", 0.0) / torch.cuda.device_count())
    if machines * room.concurrent < 1:
        raise ClusterError(
            f"The Ray cluster that $RAY_ADDRESS names must have {room.cpus:g} CPUs and {room.gpus:g} GPUs for a trial, "
            f"but has {resources.get('CPU', 0.0):g} and {resources.get('GPU', 0.0):g}: add a machine, or unset it."
        )
    return replace(room, concurrent=int(room.concurrent * machines))


def worth_packing(configs: Sequence[TrialConfig], gpus_per_trial: float | None) -> bool:
    """Whether most trials of such settings are faster in engines: on a GPU, those that can share a pack.

    On a CPU what a pack saves is less than what an actor for each resident costs, but in searches of hundreds of
    trials that leave the encoder untouched (`benchmarks.packs`).
    """
    if not torch.cuda.device_count() or gpus_per_trial == 0:
        return False
    return 2 * sum(packing.is_faster_packed(config, "cuda") for config in configs) > len(configs)
