"""Session: one trial in training, from its settings to a model with its adapter attached."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from sam2lora.adapters import Attachment
from sam2lora.adapters.attachment import detach
from sam2lora.backbones import Backbone
from sam2lora.config import Replicate, TrialConfig, steps_per_epoch
from sam2lora.datasets import CachedSet, Dataset, cached
from sam2lora.errors import DataError
from sam2lora.models.build import build
from sam2lora.models.feature_cache import FeatureCache
from sam2lora.models.segmenter import Segmenter
from sam2lora.optimizers import Group
from sam2lora.runtime import Runtime
from sam2lora.sharpness import Memory
from sam2lora.training.parts import given_images, training_images
from sam2lora.training.seeds import derived


@dataclass
class Cost:
    """What a trial took. Seconds of wall time, MiB of the worker's peak memory, numbers of parameters.

    ``forward_images``, ``backward_images``: how often its training steps sent an image forward, and back.
    """

    setup_seconds: float = 0.0
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    peak_mib: float = 0.0
    trainable_parameters: int = 0
    total_parameters: int = 0
    forward_images: int = 0
    backward_images: int = 0


@dataclass
class Session:
    """One trial in training: its settings, its model and where it stands.

    ``sources`` and ``given``: the opened sources, and the targets of which some patients join the training;
    ``training``: pairs (set, image) of every training image, the set by its place in ``sets``. ``memory``: what
    its sharpness keeps from step to step.

    ``curve`` holds one entry per finished epoch: ``epoch`` (from 1), ``score`` (mean Dice over the validation images,
    averaged over the sets that validate with equal weight), ``lr``, ``loss/total``, ``loss/<kind>`` (unweighted, mean
    over training images; ``loss/iou`` beside them where that term is on), ``<set>/dice`` and ``seconds``.
    """

    config: TrialConfig
    replicate: Replicate
    runtime: Runtime
    sources: tuple[CachedSet, ...]
    given: tuple[CachedSet, ...]
    attachment: Attachment
    optimizer: torch.optim.Optimizer
    schedule: LambdaLR
    training: tuple[tuple[int, int], ...]
    cost: Cost
    curve: list[dict[str, float]] = field(default_factory=list)
    memory: Memory = field(default_factory=dict)

    @property
    def segmenter(self) -> Segmenter:
        """The segmenter with this trial's adapters on it; those of another trial come off."""
        self.attachment.attach()
        return self.attachment.segmenter

    @property
    def sets(self) -> tuple[CachedSet, ...]:
        """Every set that training images come from: the sources, then the targets that gave patients."""
        return self.sources + self.given

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return len(self.curve)

    @property
    def finished(self) -> bool:
        """Whether every epoch has run."""
        return self.epoch >= self.config.epochs


def open_sets(datasets: Sequence[Dataset], image_size: int, runtime: Runtime) -> tuple[CachedSet, ...]:
    """The decoded images of every data set, built on first use. Raises ``DataError`` with all that is wrong in any."""
    opened, wrong = [], []
    for dataset in datasets:
        try:
            opened.append(cached(dataset, runtime.data, image_size, runtime.cache))
        except DataError as error:
            wrong.append(error)
    if wrong:
        raise DataError("\n".join(map(str, wrong))) from wrong[0]
    return tuple(opened)


def start(config: TrialConfig, replicate: Replicate, runtime: Runtime) -> Session:
    """A session that has not trained yet: data opened, frozen backbone loaded, adapter attached."""
    begun = time.perf_counter()
    torch.set_num_threads(runtime.threads)
    sources = open_sets(config.protocol.sources, config.image_size, runtime)
    given = open_sets(config.protocol.targets if config.protocol.shots else (), config.image_size, runtime)
    segmenter = pristine(config.backbone, config.image_size, runtime)
    attachment = Attachment(segmenter, config.parts, derived(replicate, "adapter"), runtime)
    groups = groups_of(config, attachment)
    # A frozen segmenter trains nothing, but an optimizer must hold something.
    optimizer = config.optimizer.build(groups or [Group("nothing", {"": nn.Parameter(torch.zeros(()))})])
    training = training_images(sources, replicate.fold) + given_images(given, config.protocol.shots, replicate, sources)
    total = config.epochs * steps_per_epoch(len(training), config.batch_size, config.accumulate)
    schedule = LambdaLR(optimizer, lambda step: config.schedule.factor(min(step, total - 1), total))
    cost = Cost(
        setup_seconds=time.perf_counter() - begun,
        trainable_parameters=sum(p.numel() for group in groups for p in group.parameters.values()),
        total_parameters=sum(parameter.numel() for parameter in segmenter.parameters()),
    )
    return Session(config, replicate, runtime, sources, given, attachment, optimizer, schedule, training, cost)


def groups_of(config: TrialConfig, attachment: Attachment) -> tuple[Group, ...]:
    """What each part trains, by the path of its field, at its share of the learning rate; no group that is empty."""
    parts = zip(config.named_parts.items(), attachment.parameters_by_part, strict=True)
    return tuple(
        Group(path, parameters, getattr(part, "lr_scale", 1.0)) for (path, part), parameters in parts if parameters
    )


@contextmanager
def precision(config: TrialConfig, runtime: Runtime) -> Iterator[None]:
    """Autocast to bfloat16 where the trial asks for it. Parameters and gradients stay float32."""
    with torch.autocast(runtime.device.split(":")[0], torch.bfloat16, enabled=config.precision == "bfloat16"):
        yield


@lru_cache(maxsize=1)
def _frozen(backbone: Backbone, image_size: int, runtime: Runtime) -> Segmenter:
    segmenter = build(backbone, image_size, runtime).to(runtime.device)
    segmenter.cache = FeatureCache(runtime) if runtime.device == "cpu" else None
    return segmenter


def pristine(backbone: Backbone, image_size: int, runtime: Runtime) -> Segmenter:
    """The frozen segmenter with nothing attached, on its device. One per process: a worker's trials share it."""
    segmenter = _frozen(backbone, image_size, runtime)
    detach(segmenter)
    return segmenter


def peak_mib(runtime: Runtime) -> float:
    """Peak memory in MiB: of the process on a CPU, of the device's allocator on a GPU."""
    if runtime.device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(runtime.device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
