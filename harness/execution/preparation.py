"""The checks before the first trial: data, weights and memory. Whatever can be refused is refused here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from harness.execution.memory_plan import fitting
from harness.tracking.tracker import Material
from sam2lora.cli.messages import warn
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import CachedSet, Dataset, Synthetic, cached, left_out
from sam2lora.errors import DataError
from sam2lora.models.build import build
from sam2lora.models.weights import provide
from sam2lora.protocols.copies import check_photographs
from sam2lora.runtime import Runtime
from sam2lora.training.parts import check_parts, check_targets, given_images, training_images, validation_images


@dataclass(frozen=True)
class Prepared:
    """What the trials of a study have to go by, opened and checked.

    ``digests``: what the settings only point at, by name; part of every trial's key. ``materials``: for MLflow.
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
    def remarks(self) -> dict[str, Any]:
        """What a question adds on its data for the report; the digests of the data change with it."""
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
        warn(console, line)
    counted = [_parts(config, replicate, sets) for config in _protocols(configs) for replicate in replicates]
    provide({digest: what for config in configs for digest, what in config.weights.items()}, runtime, console)
    for backbone in dict.fromkeys(config.backbone for config in configs):
        build(backbone, configs[0].image_size, runtime)
    digests = {f"data/{opened.dataset.name}": opened.digest for opened in sets.values()}
    digests |= {
        f"weights/{choice.kind}": (choice.weights_sha256 or "random")[:16]
        for config in configs
        for choice in config.choices.values()
        if hasattr(choice, "weights_sha256")
    }
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
    opened_sets = _opened(config, sets)
    sources, targets = opened_sets[: len(protocol.sources)], opened_sets[len(protocol.sources) :]
    given = targets if protocol.shots else []
    check_parts(sources, fold)
    check_targets(targets, protocol.target_images)
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


def _roles(config: TrialConfig) -> Iterable[tuple[Dataset, str]]:
    yield from ((dataset, "training") for dataset in config.protocol.sources)
    yield from ((dataset, "testing") for dataset in config.protocol.targets)
