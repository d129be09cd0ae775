"""What can be known before the first trial: data, weights and memory. Everything that is wrong is said here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.markup import escape

from harness.tracking.mlflow_tracker import Material
from sam2lora import checkpoints
from sam2lora.backbones import Backbone, Nano, Sam2, UNet
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import CachedSet, Dataset, Synthetic, cached, left_out
from sam2lora.errors import DataError, OutOfMemory
from sam2lora.memory import Need, training_need
from sam2lora.model import SHIPPED, build, sha256
from sam2lora.protocols.copies import check_photographs
from sam2lora.runtime import Runtime
from sam2lora.train import check_parts, check_targets, given_images, training_images, validation_images

_PROCESS_MIB = 1100.0
"""Resident memory of a worker that has imported torch and sam2 and holds nano, as measured."""
_ACTOR_MIB = 250.0
"""Resident memory of a trial's actor whose engine lives elsewhere, as measured."""


@dataclass(frozen=True)
class Prepared:
    """``digests``: what the settings only point at, by name; part of every trial's key. ``materials``: for MLflow.
    ``left_out``: by data set, what it was asked to do without, one text each; most sets have none.
    ``copies``: photographs that seem to be copies of each other, by set and id.

    ``training``, ``validation``: images of all sets that train or validate together; ``validating``: patients of the
    latter. ``fitting``: how many trials fit into memory at once.
    """

    digests: dict[str, str]
    left_out: dict[str, tuple[str, ...]]
    copies: tuple[str, ...]
    materials: tuple[Material, ...]
    training: int
    validation: int
    validating: int
    fitting: int

    @property
    def told(self) -> dict[str, Any]:
        """What a question says of the data for its report: the digests of the data change with it."""
        gone = {"left_out": {name: list(why) for name, why in self.left_out.items()}} if self.left_out else {}
        return gone | ({"copies": list(self.copies)} if self.copies else {})


def prepare(
    configs: Sequence[TrialConfig],
    replicates: Sequence[Replicate],
    runtime: Runtime,
    concurrent: int,
    console: Console,
    residents: int = 1,
) -> Prepared:
    """Open every data set that ``configs`` ask for, check their parts in every replicate, the weights and the memory.

    ``residents``: how many of the ``concurrent`` trials share a process.
    ``configs``: all settings that may come, or enough draws of them; ``Prepared`` counts the images of the first in
    the first replicate. The first use of a data set decodes and resizes it, with a line of progress; weights that go by
    name are downloaded when all else is well. Raises ``DataError``, ``OverlapError`` when a photograph stands on two
    sides, ``CheckpointError``, ``OutOfMemory`` or ``DiskError``.
    """
    sets: dict[str, CachedSet] = {}
    contexts: dict[str, str] = {}
    wrong: dict[str, DataError] = {}
    for config in configs:
        for dataset, context in _roles(config):
            if (label := f"{dataset.name}@{config.image_size}") not in sets.keys() | wrong.keys():
                with console.status(f"opening {dataset.title} at {config.image_size} pixels"):
                    try:
                        sets[label] = cached(dataset, runtime.data, config.image_size, runtime.cache)
                    except DataError as error:
                        wrong[label] = error
                contexts[label] = context
    if wrong:
        raise DataError("\n".join(dict.fromkeys(map(str, wrong.values()))))
    doubts = dict.fromkeys(
        doubt for config in _protocols(configs) for doubt in check_photographs(config.protocol, _opened(config, sets))
    )
    distinct = {opened.dataset.name: opened for opened in sets.values()}.values()
    for line in (*left_out(distinct), *map(str, doubts)):
        console.print(f"[bold yellow]warning:[/] {escape(line)}", highlight=False, soft_wrap=True)
    typical = configs[0]
    counted = [_parts(config, replicate, sets) for config in _protocols(configs) for replicate in replicates]
    backbones = _distinct(config.backbone for config in configs)
    for backbone in backbones:
        if isinstance(backbone, Sam2) and runtime.checkpoint == checkpoints.place(backbone).resolve():
            checkpoints.fetch(backbone, console)
        build(backbone, typical.image_size, runtime)
    digests = {f"data/{opened.dataset.name}": opened.digest for opened in sets.values()}
    digests |= {f"weights/{backbone.kind}": weights_digest(backbone) for backbone in backbones}
    return Prepared(
        digests=digests,
        left_out={opened.dataset.name: opened.absent for opened in sets.values() if opened.absent},
        copies=tuple(doubt.recorded for doubt in doubts),
        materials=tuple(
            Material(
                name=opened.dataset.name,
                digest=opened.digest,
                source="procedural" if isinstance(opened.dataset, Synthetic) else str(runtime.data),
                context=contexts[label],
                images=len(opened.ids),
            )
            for label, opened in sets.items()
        ),
        training=counted[0][0],
        validation=counted[0][1],
        validating=counted[0][2],
        fitting=fitting(configs, runtime, concurrent, residents),
    )


def _opened(config: TrialConfig, sets: dict[str, CachedSet]) -> list[CachedSet]:
    return [sets[f"{dataset.name}@{config.image_size}"] for dataset, _ in _roles(config)]


def _parts(config: TrialConfig, replicate: Replicate, sets: dict[str, CachedSet]) -> tuple[int, int, int]:
    """How many images train and validate, and the latter's patients; raises ``DataError`` where a part has none."""
    protocol, fold = config.protocol, replicate.fold
    sources = [sets[f"{dataset.name}@{config.image_size}"] for dataset in protocol.sources]
    given = [sets[f"{dataset.name}@{config.image_size}"] for dataset in protocol.targets if protocol.shots]
    check_parts(sources, fold)
    check_targets([sets[f"{dataset.name}@{config.image_size}"] for dataset in protocol.targets], protocol.target_images)
    shots = given_images(given, protocol.shots, replicate, sources)
    training = len(training_images(sources, fold)) + len(shots)
    validating = [[opened.patients[i] for i in validation_images(opened, fold)] for opened in sources or given]
    return training, sum(map(len, validating)), sum(len(set(patients)) for patients in validating)


def _protocols(configs: Sequence[TrialConfig]) -> Iterable[TrialConfig]:
    """The first of the settings that share protocol and frame."""
    seen: dict[object, TrialConfig] = {}
    for config in configs:
        seen.setdefault((config.protocol, config.image_size), config)
    return seen.values()


def fitting(configs: Sequence[TrialConfig], runtime: Runtime, concurrent: int, residents: int = 1) -> int:
    """How many trials, ``concurrent`` at most, fit into memory at once, ``residents`` of them in one process.

    Raises ``OutOfMemory`` when not one does.
    """
    needs = [(training_need(config), config) for config in _largest(configs)]
    need, largest = max(needs, key=lambda pair: sum(pair[0]))
    if runtime.device == "cpu":
        free = psutil.virtual_memory().available / 2**20
    else:
        free = torch.cuda.mem_get_info(runtime.device)[0] / 2**20
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
    """Of every combination of model and batch shape, the settings that train the most parameters."""
    shapes: dict[object, TrialConfig] = {}
    for config in sorted(configs, key=lambda config: config.adapter.count(config.backbone)):
        shapes[config.backbone, config.image_size, config.batch_size, config.precision] = config
    return shapes.values()


def _roles(config: TrialConfig) -> Iterable[tuple[Dataset, str]]:
    yield from ((dataset, "training") for dataset in config.protocol.sources)
    yield from ((dataset, "testing") for dataset in config.protocol.targets)


def _distinct(backbones: Iterable[Backbone]) -> list[Backbone]:
    return list(dict.fromkeys(backbones))


def weights_digest(backbone: Backbone) -> str:
    """What names a backbone's weights: the digest of their file, or the word random."""
    match backbone:
        case Nano(weights="shipped"):
            return sha256(SHIPPED)[:16]
        case Sam2(checkpoint=str(digest)) | UNet(checkpoint=str(digest)):
            return digest[:16]
        case _:
            return "random"
