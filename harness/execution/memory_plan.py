"""How memory is planned: how many trials run at once, by the memory that a training step of each needs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch

from sam2lora.adapters import count
from sam2lora.config import TrialConfig
from sam2lora.errors import OutOfMemory
from sam2lora.runtime import Runtime
from sam2lora.training.memory import Need, free_mib, training_need

_PROCESS_MIB = 1100.0
"""Resident memory of a worker that has imported torch and sam2 and holds nano, as measured."""
_ACTOR_MIB = 250.0
"""Resident memory of a trial's actor whose engine lives elsewhere, as measured."""


def fitting(configs: Sequence[TrialConfig], runtime: Runtime, concurrent: int, residents: int = 1) -> int:
    """How many trials, ``concurrent`` at most, fit into memory at once, ``residents`` of them in one process.

    Raises ``OutOfMemory`` when not one does.
    """
    needs = [(training_need(config), config) for config in _largest(configs)]
    need, largest = max(needs, key=lambda pair: sum(pair[0]))
    free = free_mib(runtime.device)
    needed = _taken(1, need, runtime.device, residents)
    if needed > free:
        raise OutOfMemory(
            f"A training step must fit into memory, but {largest.batch_size} images of {largest.image_size} pixels "
            f"need about {needed:,.0f} MiB and {runtime.device} has {free:,.0f} MiB free: lower batch_size or "
            f"image_size, choose a smaller backbone, or free memory."
        )
    return max(count for count in range(1, concurrent + 1) if _taken(count, need, runtime.device, residents) <= free)


def _taken(trials: int, need: Need, device: str, residents: int) -> float:
    """MiB of so many trials at once: of the machine's memory on a CPU, else of every GPU's, which share the trials."""
    if device != "cpu":
        trials = math.ceil(trials / torch.cuda.device_count())
    processes = math.ceil(trials / residents)
    taken = need.own * trials + need.shared * processes
    if device != "cpu":
        return taken
    actors = trials if residents > 1 else 0
    return taken + _PROCESS_MIB * processes + _ACTOR_MIB * actors


def _largest(configs: Sequence[TrialConfig]) -> Iterable[TrialConfig]:
    """Of every combination of model, passes and batch shape, the settings that train the most parameters."""
    shapes: dict[object, TrialConfig] = {}
    for config in sorted(configs, key=lambda config: count(config.parts, config.backbone)):
        parts = (config.decoder.kind, config.prompter.kind, config.sharpness.kind, *(a.kind for a in config.auxiliary))
        shapes[config.backbone, parts, config.image_size, config.batch_size, config.precision] = config
    return shapes.values()
