"""The one training loop, as functions: ``start`` a session, run an ``epoch``, ``judge`` it, ``save`` and ``resume`` it.

A session is one trial on one device. It knows nothing of who asked for it: a search, an ablation or a person.
``python -m sam2lora.train`` is the person's way in, and lives in ``sam2lora.commands.train``.
"""

from __future__ import annotations

if __name__ == "__main__":  # in front of imports that take seconds: help and refusals come at once
    from sam2lora.commands.train import main

    raise SystemExit(main())

import os
import resource
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from scipy.special import logit
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim.lr_scheduler import LambdaLR

from sam2lora import evaluate
from sam2lora.adapters import Full, detach
from sam2lora.backbones import Backbone
from sam2lora.choice import digest, to_json
from sam2lora.config import Replicate, TrialConfig, steps_per_epoch
from sam2lora.datasets import CachedSet, Dataset, cached
from sam2lora.errors import DataError, DiskError, Diverged
from sam2lora.evaluate import Predictor, Role
from sam2lora.features import remembering
from sam2lora.losses import Loss
from sam2lora.losses.quality import quality_error
from sam2lora.metrics import NotNumbers
from sam2lora.model import Points, Sam2Segmenter, Segmenter, build
from sam2lora.prompts import NoPrompt, as_tensors
from sam2lora.runtime import Runtime
from sam2lora.transfers import fetched, overlapped, sent


@dataclass
class Cost:
    """What a trial took. Seconds of wall time, MiB of the worker's peak memory, numbers of parameters."""

    setup_seconds: float = 0.0
    train_seconds: float = 0.0
    evaluate_seconds: float = 0.0
    peak_mib: float = 0.0
    trainable_parameters: int = 0
    total_parameters: int = 0


@dataclass
class Session:
    """One trial in training: its settings, its model and where it stands.

    ``sources`` and ``given``: the opened sources, and the targets of which some patients join the training;
    ``training``: pairs (set, image) of every training image, the set by its place in ``sets``.

    ``curve`` holds one entry per finished epoch: ``epoch`` (from 1), ``score`` (mean Dice over the validation images,
    averaged over the sets that validate with equal weight), ``lr``, ``loss/total``, ``loss/<kind>`` (unweighted, mean
    over training images; ``loss/iou`` beside them where that term is on), ``<set>/dice`` and ``seconds``.
    """

    config: TrialConfig
    replicate: Replicate
    runtime: Runtime
    sources: tuple[CachedSet, ...]
    given: tuple[CachedSet, ...]
    segmenter: Segmenter
    optimizer: torch.optim.Optimizer
    schedule: LambdaLR
    training: tuple[tuple[int, int], ...]
    cost: Cost
    curve: list[dict[str, float]] = field(default_factory=list)

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
    segmenter = _segmenter(config, runtime)
    config.adapter.attach(segmenter, torch.Generator().manual_seed(derived(replicate, "adapter")))
    trainable = [parameter for parameter in segmenter.parameters() if parameter.requires_grad]
    # A frozen segmenter trains nothing, but an optimizer must hold something.
    optimizer = config.optimizer.build(trainable or [nn.Parameter(torch.zeros(()))])
    training = training_images(sources, replicate.fold) + given_images(given, config.protocol.shots, replicate, sources)
    total = config.epochs * steps_per_epoch(len(training), config.batch_size, config.accumulate)
    schedule = LambdaLR(optimizer, lambda step: config.schedule.factor(min(step, total - 1), total))
    cost = Cost(
        setup_seconds=time.perf_counter() - begun,
        trainable_parameters=sum(parameter.numel() for parameter in trainable),
        total_parameters=sum(parameter.numel() for parameter in segmenter.parameters()),
    )
    segmenter = remembering(segmenter, runtime)
    return Session(config, replicate, runtime, sources, given, segmenter, optimizer, schedule, training, cost)


def training_images(sources: Sequence[CachedSet], fold: int) -> tuple[tuple[int, int], ...]:
    """Pairs (source, image) of every development image outside ``fold``, in the order of the sources."""
    return tuple(
        (s, i)
        for s, source in enumerate(sources)
        for i, split in enumerate(source.splits)
        if split not in ("test", str(fold))
    )


def validation_images(source: CachedSet, fold: int) -> list[int]:
    """Indices of the images of ``fold``, the part of the development images that validates."""
    return [i for i, split in enumerate(source.splits) if split == str(fold)]


def given_images(
    given: Sequence[CachedSet], shots: int, replicate: Replicate, sources: Sequence[CachedSet] = ()
) -> tuple[tuple[int, int], ...]:
    """Pairs (set, image) of the images that ``shots`` patients of each of ``given`` add.

    Sets count on from ``sources``. Patients are drawn from the development part outside the replicate's fold. Raises
    ``DataError`` when a set has fewer of them, nothing to be judged on, or, where no source validates, nothing to
    validate on.
    """
    return tuple(
        (s, image)
        for s, opened in enumerate(given, start=len(sources))
        for image in _shots(opened, shots, replicate, validates=not sources)
    )


def _shots(opened: CachedSet, shots: int, replicate: Replicate, *, validates: bool) -> list[int]:
    name = opened.dataset.name
    free = [i for i, split in enumerate(opened.splits) if split not in ("test", str(replicate.fold))]
    patients = sorted({opened.patients[i] for i in free})
    if shots > len(patients):
        raise DataError(
            f"A target must have the patients that it gives, but {name!r} has {len(patients)} outside the test part "
            f"and fold {replicate.fold}, and shots is {shots}: lower shots."
        )
    if not test_images(opened, "test"):
        raise DataError(
            f"A target that gives patients is judged on its test part, but {name!r} has none: use it as a source, or "
            f"as the target of a transfer."
        )
    if validates and not validation_images(opened, replicate.fold):
        raise DataError(
            f"Without sources the targets validate, but {name!r} has no image in fold {replicate.fold}: name a source, "
            f"or choose another fold."
        )
    rng = np.random.default_rng(derived(replicate, "shots", name))
    drawn = set(rng.permutation(patients)[:shots].tolist())
    return [i for i in free if opened.patients[i] in drawn]


def check_parts(sources: Sequence[CachedSet], fold: int) -> None:
    """Raise ``DataError`` unless every source has images to train on and images to validate on."""
    for s, source in enumerate(sources):
        for part, count in (
            ("training", sum(where == s for where, _ in training_images(sources, fold))),
            ("validation", len(validation_images(source, fold))),
        ):
            if count == 0:
                raise DataError(
                    f"Every source needs {part} images, but {source.dataset.name!r} has none in fold {fold} among its "
                    f"{len(source.ids)} images: add images, choose another fold, or use it as a target only."
                )


def check_targets(targets: Sequence[CachedSet], part: Literal["all", "test"]) -> None:
    """Raise ``DataError`` unless every target has images of ``part``: without any it would be in no table of scores."""
    for target in targets:
        if not test_images(target, part):
            raise DataError(
                f"Every target needs images that judge, but {target.dataset.name!r} has no test part among its "
                f"{len(target.ids)} images: let all of its images judge (target_images=all), or leave it out."
            )


def epoch(session: Session) -> dict[str, float]:
    """Train one pass over the training images, validate, and append the result to ``session.curve``.

    Raises ``Diverged`` a batch after a loss or a gradient was not finite, and at the end of the epoch if a weight is
    not or a validation logit is NaN.
    """
    begun = time.perf_counter()
    session.segmenter.train()
    # Dropout draws from torch's global generator: one seed per epoch makes a resumed trial equal an uninterrupted one.
    torch.manual_seed(derived(session.replicate, "dropout", session.epoch + 1))
    (lane,) = lockstep([session], Alone(session))
    seconds = time.perf_counter() - begun
    if lane.fault is not None:
        raise lane.fault
    with evaluate.alone(session.segmenter) as predictor:
        (entry,) = close_epoch([lane], predictor, seconds)
    if isinstance(entry, Diverged):
        raise entry
    return entry


def close_epoch(lanes: Sequence[Lane], predictor: Predictor, seconds: float) -> list[dict[str, float] | Diverged]:
    """Validate lanes that have run their epoch, and append the entry that is returned for each to its session's curve.

    All are validated alike (`sight`) by ``predictor``, each was trained for ``seconds``, and none has a fault. Where a
    logit is NaN the lane has diverged, and its curve stays as it is.
    """
    begun = time.perf_counter()
    scores = validate_each([lane.session for lane in lanes], predictor)
    validated = (time.perf_counter() - begun) / len(lanes)
    entries: list[dict[str, float] | Diverged] = []
    for lane, score in zip(lanes, scores, strict=True):
        session = lane.session
        if isinstance(score, NotNumbers):
            entries.append(Diverged("a validation logit is not a number", lane.number, lane.step))
            continue
        entry: dict[str, float] = {"epoch": lane.number, "lr": float(session.schedule.get_last_lr()[0])}
        entry |= {f"loss/{name}": value for name, value in lane.losses().items()}
        entry |= {**score, "seconds": seconds + validated}
        session.cost.train_seconds += seconds
        session.cost.evaluate_seconds += validated
        session.cost.peak_mib = max(session.cost.peak_mib, peak_mib(session.runtime))
        session.curve.append(entry)
        entries.append(entry)
    return entries


@dataclass
class Lane:
    """A trial on its way through one epoch: the epoch's ``number``, steps begun, sums of losses over the images seen.

    ``weights``: of its losses, on the device. ``seen`` and ``group``: images that the step has and will have; ``left``:
    images that no finished step had. ``fault``: why it can go no further; it then takes no part in the rest of the
    epoch.
    """

    session: Session
    number: int
    trainable: list[nn.Parameter]
    weights: Tensor
    left: int
    step: int = 0
    seen: int = 0
    group: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    fault: Diverged | None = None

    def take(self, images: int) -> None:
        """Count the images of the next batch, which begins a step where the last one is `complete`."""
        if self.complete:
            self.step, self.seen, self.left = self.step + 1, 0, self.left - self.group
            self.group = min(self.session.config.batch_size * self.session.config.accumulate, self.left)
        self.seen += images

    @property
    def complete(self) -> bool:
        """Whether the step has all of its images, as before the first one."""
        return self.seen >= self.group

    def add(self, sums: Mapping[str, Tensor]) -> None:
        """Count the losses of a batch."""
        self.sums = {name: self.sums[name] + value if self.sums else value for name, value in sums.items()}

    def losses(self) -> dict[str, float]:
        """Mean losses over the training images by name."""
        return {name: float(value) / len(self.session.training) for name, value in self.sums.items()}


Batch = tuple[Tensor, Tensor, Points | None]
"""Images (N, 3, S, S) in [0, 1], masks (N, 1, S, S) in {0, 1}, and prompts or None."""
Output = tuple[Tensor, Tensor | None]
"""Logits (N, 1, h, h), and the guessed IoU (N, 1) where the quality head was run."""
Seen = tuple[Tensor, Points | None]
"""What a model sees of a batch: images and prompts."""


class Forward(Protocol):
    """The forward pass of trials in lock-step."""

    def __call__(self, given: Sequence[Seen], places: Sequence[int], /) -> Sequence[Output]:
        """The output of each trial, for distinct batches and for each trial the place of its batch among them."""

    def zero_grad(self) -> None:
        """Forget the gradients of the step before."""


@dataclass
class Alone:
    """The forward pass of one trial that has its segmenter to itself."""

    session: Session

    def __call__(self, given: Sequence[Seen], places: Sequence[int]) -> Sequence[Output]:
        """The output of the one trial."""
        images, points = given[places[0]]
        session, segmenter = self.session, self.session.segmenter
        with precision(session.config, session.runtime):
            # a U-Net with a weight is refused
            if session.config.iou_weight > 0 and isinstance(segmenter, Sam2Segmenter):
                return [segmenter.forward_with_iou(images, points)]
            return [(segmenter(images, points), None)]

    def zero_grad(self) -> None:
        """Drop them: what the step does not reach then has none, and stays as it is."""
        self.session.optimizer.zero_grad(set_to_none=True)


@contextmanager
def _flushed() -> Iterator[None]:
    """Denormal numbers are 0 for the time of the block: gradients below 1e-38 take a CPU a hundred times as long."""
    before = torch.tensor(1e-40).item() == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@_flushed()
def lockstep(sessions: Sequence[Session], forward: Forward) -> list[Lane]:
    """Train each session for its next epoch, batch by batch together, with one ``forward`` pass for all.

    All need batches and steps of equal sizes. A lane's losses, gradients and steps are its own: trials that share their
    draws share their batches, and nothing else passes from one to another. A lane whose loss or gradient is not
    finite gets its ``fault`` one batch later, when a GPU has work again, and at the end of the epoch at the latest, as
    one does whose weights are not finite.
    """
    lanes = [enter(session) for session in sessions]
    streams = {_draws(lane): batches(lane.session, lane.number) for lane in lanes}
    places = [list(streams).index(_draws(lane)) for lane in lanes]
    together = zip(*streams.values(), strict=True)
    device = sessions[0].runtime.device
    verdict = _stop_unless_finite([])
    for given in overlapped(together, device) if device.startswith("cuda") else together:
        if any(lane.complete for lane in lanes if lane.fault is None):  # all of them: they have equally many batches
            forward.zero_grad()
        for lane, place in zip(lanes, places, strict=True):
            if lane.fault is None:
                lane.take(len(given[place][0]))
        advanced = step(lanes, forward, given, places)
        for each in advanced:
            each.lane.add(each.sums)
            if each.lane.complete:
                each.lane.session.schedule.step()
        objectives = [(each.lane, "the loss", each.objective) for each in advanced]
        norms = [(each.lane, "the gradient", each.norm) for each in advanced if each.norm is not None]
        verdict()  # on the batch before
        verdict = _stop_unless_finite([*objectives, *norms])
        if all(lane.fault for lane in lanes):
            break
    verdict()
    # What the last step did to the weights has shown in no loss.
    sound = [lane for lane in lanes if lane.fault is None]
    _stop_unless_finite([(lane, "a weight", get_total_norm(lane.trainable, float("inf"))) for lane in sound])()
    return lanes


def enter(session: Session) -> Lane:
    """The lane of a session in front of its next epoch."""
    trainable = [parameter for group in session.optimizer.param_groups for parameter in group["params"]]
    weights = sent(torch.tensor(loss_weights(session.config), dtype=torch.float64), session.runtime.device)
    return Lane(session, session.epoch + 1, trainable, weights, left=len(session.training))


class Advanced(NamedTuple):
    """What a batch came to in a lane, on its device.

    ``objective`` (): what was minimised; ``sums`` (): losses by name, summed over the images; ``norm`` (): the norm of
    the gradient before it was clipped, where the step is complete and trains anything.
    """

    lane: Lane
    objective: Tensor
    sums: dict[str, Tensor]
    norm: Tensor | None


def step(lanes: Sequence[Lane], forward: Forward, given: Sequence[Batch], places: Sequence[int]) -> list[Advanced]:
    """One batch of every lane without a fault: forward, losses, backward and, in a complete step, the optimizer's.

    Nothing in here asks for the value of a tensor or copies from the host, so that the host runs ahead of a GPU and a
    CUDA graph can hold all of it; the graph would keep the learning rate of its capture, which is a float. Lanes have
    taken their images (`Lane.take`). The schedule moves on afterwards.
    """
    outputs = forward([(images, points) for images, _, points in given], places)
    running = [
        (lane, given[place][1], output)
        for lane, place, output in zip(lanes, places, outputs, strict=True)
        if lane.fault is None
    ]
    objectives = _objectives(running)
    _backward([objective for _, objective, _ in objectives])
    return [Advanced(lane, objective, sums, _update(lane)) for lane, objective, sums in objectives]


def _draws(lane: Lane) -> str:
    """What an epoch's batches depend on: lanes of equal draws see equal batches."""
    session, config = lane.session, lane.session.config
    names = [[opened.dataset.name, opened.digest] for opened in session.sets]
    what = [names, config.image_size, config.batch_size, config.prompt_dropout, lane.number, session.training]
    return digest(session.replicate, config.augment, config.train_prompt, what)


def _objectives(running: Sequence[tuple[Lane, Tensor, Output]]) -> list[tuple[Lane, Tensor, dict[str, Tensor]]]:
    """What lanes step on, and sums of losses: means over all images of the step, however many batches bring them.

    ``running``: lanes with their masks and output. A loss is of each image by itself, so that lanes of the same losses
    have them computed in one go, whatever their weights.
    """
    alike: dict[tuple[tuple[Loss, ...], bool], list[tuple[Lane, Tensor, Output]]] = {}
    for one in running:
        config = one[0].session.config
        alike.setdefault((config.loss.losses, config.iou_weight > 0), []).append(one)
    return [objective for group in alike.values() for objective in _of_same_losses(group)]


def _of_same_losses(group: Sequence[tuple[Lane, Tensor, Output]]) -> Iterator[tuple[Lane, Tensor, dict[str, Tensor]]]:
    lanes = [lane for lane, _, _ in group]
    config = lanes[0].session.config
    logits = _joined([logits for _, _, (logits, _) in group])
    guessed = [quality for _, _, (_, quality) in group if quality is not None and config.iou_weight > 0]
    parts = losses(config, logits, _joined(guessed) if guessed else None, _joined([masks for _, masks, _ in group]))
    values = torch.stack(list(parts.values())).view(len(parts), len(lanes), -1)  # of each loss, lane and image
    weights = torch.stack([lane.weights for lane in lanes], 1).to(values.dtype)[:, :, None]
    total = (weights * values).sum(0)
    sums = torch.cat([total[None], values]).detach().sum(2).T
    for lane, objective, own in zip(lanes, (total.sum(1) / lanes[0].group).unbind(), sums, strict=True):
        yield lane, objective, dict(zip(("total", *parts), own.unbind(), strict=True))


def _joined(batches: Sequence[Tensor]) -> Tensor:
    return batches[0] if len(batches) == 1 else torch.cat(list(batches))


def _backward(objectives: Sequence[Tensor]) -> None:
    """The gradient of every objective, in one pass: no parameter is in two of them."""
    if kept := [objective for objective in objectives if objective.requires_grad]:
        torch.stack(kept).sum().backward()  # type: ignore[no-untyped-call]


def _update(lane: Lane) -> Tensor | None:
    """Take the lane's step, if it is complete; the norm of its gradient, if it has one."""
    if not lane.complete:
        return None
    limit = lane.session.config.clip_norm
    norm = clip_grad_norm_(lane.trainable, limit if limit is not None else float("inf"))
    lane.session.optimizer.step()
    return norm if any(parameter.grad is not None for parameter in lane.trainable) else None


def _stop_unless_finite(values: Sequence[tuple[Lane, str, Tensor]]) -> Callable[[], None]:
    """Ask whether each lane's value, named for a message, is a finite number: one question for all.

    The call that is returned waits for the answer and stops the lanes that it is no for, each by its first fault.
    """
    if not values:
        return lambda: None
    finite = fetched(torch.stack([torch.isfinite(value) for _, _, value in values]))
    asked = [(lane, what, lane.step) for lane, what, _ in values]

    def stop() -> None:
        for (lane, what, step), fine in zip(asked, finite().tolist(), strict=True):
            if not fine and lane.fault is None:
                lane.fault = Diverged(f"{what} is not finite", lane.number, step)

    return stop


def losses(config: TrialConfig, logits: Tensor, quality: Tensor | None, masks: Tensor) -> dict[str, Tensor]:
    """What a batch is trained on: unweighted losses (N,) by name, in the order of `loss_weights`.

    ``logits`` (N, 1, h, h), ``masks`` (N, 1, S, S) in {0, 1}. Where ``iou_weight`` is above 0 the last one is ``iou``,
    the error of the guessed IoU ``quality`` (N, 1).
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    logits = F.interpolate(logits, size=masks.shape[-2:], mode="bilinear", align_corners=False)
    values = config.loss.values(logits, masks)
    if quality is None or config.iou_weight == 0:
        return values
    return {**values, "iou": quality_error(quality, logits, masks)}


def loss_weights(config: TrialConfig) -> tuple[float, ...]:
    """The weight of each loss of `losses`."""
    weights = tuple(config.loss.weights.values())
    return (*weights, config.iou_weight) if config.iou_weight > 0 else weights


def batches(session: Session, number: int) -> Iterator[Batch]:
    """The batches of epoch ``number``: images (N, 3, S, S) in [0, 1], masks (N, 1, S, S) in {0, 1}, prompts or None.

    The order depends on the replicate and the epoch; an image's augmentation and prompt on these and on the image
    itself, whatever its batch. Trials of equal replicate and batch size therefore see equal batches, whatever else
    differs. A batch whose prompt is dropped has None, as one without a prompt.
    """
    config, replicate = session.config, session.replicate
    order = np.random.default_rng(derived(replicate, "order", number)).permutation(len(session.training))
    for begin in range(0, len(order), config.batch_size):
        pairs = [session.training[k] for k in order[begin : begin + config.batch_size]]
        samples = [_augmented(session, source, image, number) for source, image in pairs]
        images = torch.stack([image for image, _ in samples]).float().div_(255.0)
        masks = torch.stack([mask for _, mask in samples])
        points = None if _dropped(session, number, begin) else _points(session, number, pairs, masks)
        yield images, masks[:, None].float(), points


def _dropped(session: Session, number: int, begin: int) -> bool:
    # One uniform number per batch, whatever the probability: what a low dropout takes away, a higher one takes too.
    drawn = np.random.default_rng(derived(session.replicate, "prompt dropout", number, begin)).random()
    return bool(drawn < session.config.prompt_dropout)


def _points(session: Session, number: int, pairs: Sequence[tuple[int, int]], masks: Tensor) -> Points | None:
    if isinstance(session.config.train_prompt, NoPrompt):
        return None
    drawn = []
    for (source, image), mask in zip(pairs, masks.cpu().numpy().astype(bool), strict=True):
        opened = session.sets[source]
        seed = derived(session.replicate, "prompt", number, opened.dataset.name, opened.ids[image])
        drawn.append(session.config.train_prompt.sample(mask, np.random.default_rng(seed)))
    return as_tensors(drawn, session.runtime.device)


def _augmented(session: Session, source: int, image: int, number: int) -> tuple[Tensor, Tensor]:
    """Bytes go to the device, and what is drawn for the image happens to it there."""
    opened, device = session.sets[source], session.runtime.device
    pixels = sent(torch.from_numpy(np.array(opened.images[image])), device).permute(2, 0, 1).contiguous()
    mask = sent(torch.from_numpy(np.array(opened.masks[image])), device)
    seed = derived(session.replicate, "augment", number, opened.dataset.name, opened.ids[image])
    return session.config.augment(pixels, mask, seed)


def sight(session: Session) -> str:
    """What validation and judgement look at: sessions of equal sight, and of one image size, are judged together."""
    config, replicate = session.config, session.replicate
    prompts = "none" if isinstance(config.test_prompt, NoPrompt) else digest(config.test_prompt, replicate)
    return digest(config.protocol, prompts, replicate.fold, session.training)


def validate_each(sessions: Sequence[Session], predictor: Predictor) -> list[dict[str, float] | NotNumbers]:
    """``score`` and ``<set>/dice`` on the validation images, at native resolution inside the field of view.

    The error itself for a session that has a NaN among its logits.

    The sources validate; only where a protocol has none does the same fold of the targets that gave patients. All
    sessions have one `sight`.
    """
    first, tables = sessions[0], []
    halves = (0.5,) * len(sessions)
    for opened in first.sources or first.given:
        images = validation_images(opened, first.replicate.fold)
        tables.append(_rows(sessions, predictor, opened, images, halves, role="val", metrics="dice"))
    return [_validated(evaluate.joined(own, _stacked)) for own in zip(*tables, strict=True)]


def _validated(rows: pd.DataFrame | NotNumbers) -> dict[str, float] | NotNumbers:
    if isinstance(rows, NotNumbers):
        return rows
    per_source = evaluate.summary(rows)
    return {"score": float(np.mean([per_source[name] for name in per_source])), **per_source}


def threshold_each(sessions: Sequence[Session], predictor: Predictor) -> list[float]:
    """For each session the probability above which a pixel is predicted, chosen on validation images of the sources.

    All sessions have one `sight`. Their images are predicted once for all of them, and only where one has a choice.
    Raises ``NotNumbers`` if a logit of such a session is NaN.
    """
    begun, first = time.perf_counter(), sessions[0]
    thresholds = [session.config.threshold for session in sessions]
    cuts = [logit(each.candidates) for each in thresholds]
    curves: list[list[list[NDArray[np.float64]]]] = [[] for _ in sessions]
    for opened in first.sources if any(len(own) for own in cuts) else ():
        images, prompt = validation_images(opened, first.replicate.fold), first.config.test_prompt
        with precision(first.config, first.runtime):
            seed = prompt_seed(first, opened)
            found = evaluate.dice_curves(predictor, opened, images, prompt, first.runtime, seed=seed, cuts=cuts)
        for own, source in zip(curves, found, strict=True):
            own.append(source)
    seconds = (time.perf_counter() - begun) / len(sessions)
    for session in sessions:
        session.cost.evaluate_seconds += seconds
    return [each.find(own) for each, own in zip(thresholds, curves, strict=True)]


def judge(session: Session) -> pd.DataFrame:
    """``judge_each`` for one session, at its threshold."""
    with evaluate.alone(session.segmenter) as predictor:
        (rows,) = judge_each([session], predictor, threshold_each([session], predictor))
    return rows


def judge_each(sessions: Sequence[Session], predictor: Predictor, probabilities: Sequence[float]) -> list[pd.DataFrame]:
    """For each session one row per test image of every source and per image of every target: its final scores.

    Called once, after the last epoch, for sessions of one `sight`. Columns as in ``sam2lora.evaluate.evaluate_each``;
    ``role`` is ``"source"`` or ``"target"``, and ``given`` counts the images by which the patients of a target joined
    the training (0 of a source, which trains by its whole development part). The thresholds ``probabilities`` hold
    for every row. Raises ``NotNumbers`` if a logit of any session is NaN.
    """
    begun, first = time.perf_counter(), sessions[0]
    given = {opened.dataset.name: 0 for opened in first.given}
    for s, _ in first.training:
        if s >= len(first.sources):
            given[first.given[s - len(first.sources)].dataset.name] += 1
    tables = [
        _rows(sessions, predictor, opened, images, probabilities, role=role, metrics="all")
        for opened, role, images in judged(first)
    ]
    seconds = (time.perf_counter() - begun) / len(sessions)
    for session in sessions:
        session.cost.evaluate_seconds += seconds
        session.cost.peak_mib = max(session.cost.peak_mib, peak_mib(session.runtime))
    if not tables:
        return [pd.DataFrame() for _ in sessions]
    scores = [evaluate.joined(own, _stacked) for own in zip(*tables, strict=True)]
    return [rows.assign(given=[given.get(name, 0) for name in rows["dataset"]]) for rows in map(_sound, scores)]


def _stacked(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True)


def _sound(rows: pd.DataFrame | NotNumbers) -> pd.DataFrame:
    # Not told as Diverged, which a sampler would learn from: nothing that a test image shows may reach it.
    if isinstance(rows, NotNumbers):
        raise rows
    return rows


def judged(session: Session) -> list[tuple[CachedSet, Role, list[int]]]:
    """The sets that judge a trial, sources first, with their roles and the indices of their images, if any."""
    protocol = session.config.protocol
    targets = open_sets(protocol.targets, session.config.image_size, session.runtime)
    parts: list[tuple[CachedSet, Role, list[int]]] = [(s, "source", test_images(s, "test")) for s in session.sources]
    parts += [(target, "target", test_images(target, protocol.target_images)) for target in targets]
    return [part for part in parts if part[2]]


def test_images(opened: CachedSet, part: Literal["all", "test"]) -> list[int]:
    """Indices of the images that judge: the test part, or all of a set that took no part in training."""
    return [i for i, split in enumerate(opened.splits) if part == "all" or split == "test"]


def prompt_seed(session: Session, opened: CachedSet) -> int:
    """The seed of the prompts that the images of ``opened`` are validated and judged with."""
    return derived(session.replicate, "test prompts", opened.dataset.name)


def _rows(
    sessions: Sequence[Session],
    predictor: Predictor,
    opened: CachedSet,
    images: Sequence[int],
    probabilities: Sequence[float],
    *,
    role: Role,
    metrics: Literal["all", "dice"],
) -> list[pd.DataFrame | NotNumbers]:
    first = sessions[0]
    with precision(first.config, first.runtime):
        return evaluate.evaluate_each(
            predictor,
            opened,
            images,
            first.config.test_prompt,
            first.runtime,
            role=role,
            seed=prompt_seed(first, opened),
            metrics=metrics,
            probabilities=probabilities,
        )


def state(session: Session) -> dict[str, Any]:
    """Where the session stands, for ``restore``. Tensors may be the session's own: copy what must outlast an epoch."""
    return {
        "config": to_json(session.config),
        "replicate": to_json(session.replicate),
        "adapter": session.config.adapter.state(session.segmenter),
        "optimizer": session.optimizer.state_dict(),
        "schedule": session.schedule.state_dict(),
        "curve": session.curve,
        "cost": asdict(session.cost),
    }


def restore(session: Session, state: Mapping[str, Any]) -> None:
    """Bring the session of a trial to where ``state`` found it."""
    session.config.adapter.load(session.segmenter, state["adapter"])
    session.optimizer.load_state_dict(state["optimizer"])
    session.schedule.load_state_dict(state["schedule"])
    session.curve[:] = state["curve"]
    session.cost = Cost(**state["cost"])


def save(session: Session, path: Path) -> None:
    """Write where the session stands, so that ``resume`` goes on as if it had never stopped. Atomic."""
    now = state(session)
    write_atomically(path, lambda temporary: torch.save(now, temporary))


def resume(session: Session, path: Path) -> None:
    """Bring a session that has just started to where ``save`` left the same trial.

    Raises ``DataError`` when the file belongs to another trial: nothing is guessed from half a match.
    """
    found = torch.load(path, map_location="cpu", weights_only=True)
    mine = (to_json(session.config), to_json(session.replicate))
    if (found["config"], found["replicate"]) != mine:
        raise DataError(
            f"A checkpoint must belong to the trial that resumes from it, but {path} was written by other settings: "
            f"remove the file to train this trial from its start."
        )
    setup = session.cost.setup_seconds
    restore(session, found)
    session.cost.setup_seconds += setup


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` on a temporary neighbour of ``path`` and move it into place: a reader sees all or nothing.

    Raises ``DiskError`` when the file cannot be written; the temporary file is removed.
    """
    # Not the file's own name with something added: a name may be as long as the system lets it.
    temporary = path.with_name(f".{zlib.crc32(os.fsencode(path.name)):08x}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.replace(path)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors wrap the system's error
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        room = f"{shutil.disk_usage(path.parent).free / 2**20:.1f} MiB free" if path.parent.exists() else "no folder"
        raise DiskError(
            f"Results must be written before a trial goes on, but {path} cannot be ({room}): {error}. Free some "
            f"space or name another folder, then run the same command again; what was finished is kept."
        ) from error


def derived(replicate: Replicate, *what: object) -> int:
    """A seed for one purpose, 62 bits: equal for equal replicates, unrelated between purposes."""
    return int(digest(replicate, [str(part) for part in what]), 16) >> 2


@contextmanager
def precision(config: TrialConfig, runtime: Runtime) -> Iterator[None]:
    """Autocast to bfloat16 where the trial asks for it. Parameters and gradients stay float32."""
    with torch.autocast(runtime.device.split(":")[0], torch.bfloat16, enabled=config.precision == "bfloat16"):
        yield


@lru_cache(maxsize=1)
def _frozen(backbone: Backbone, image_size: int, runtime: Runtime) -> Segmenter:
    return build(backbone, image_size, runtime).to(runtime.device)


def pristine(backbone: Backbone, image_size: int, runtime: Runtime) -> Segmenter:
    """The frozen segmenter without an adapter, on its device. One per process: a worker's trials share it."""
    segmenter = _frozen(backbone, image_size, runtime)
    detach(segmenter)
    return segmenter


def _segmenter(config: TrialConfig, runtime: Runtime) -> Segmenter:
    """The shared one, or one of its own for a trial that trains its weights: nothing of it reaches another trial."""
    if isinstance(config.adapter, Full):
        return build(config.backbone, config.image_size, runtime).to(runtime.device)
    return pristine(config.backbone, config.image_size, runtime)


def peak_mib(runtime: Runtime) -> float:
    """Peak memory in MiB: of the process on a CPU, of the device's allocator on a GPU."""
    if runtime.device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(runtime.device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
