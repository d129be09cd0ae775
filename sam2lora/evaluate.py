"""Scores of a model on images: one row per image, at native resolution, inside the field of view."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from math import log
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from sam2lora.adapters import merged
from sam2lora.datasets import CachedSet, Native, to_native
from sam2lora.metrics import METRICS, Metric, NotNumbers, histogram, measure
from sam2lora.models.segmenter import Points, Segmenter
from sam2lora.prompts import Prompt, as_tensors
from sam2lora.runtime import Runtime
from sam2lora.transfers import to_device

Role = Literal["val", "source", "target"]
Frame = NDArray[np.float32]
"""Logits (S, S) in the model frame."""

T = TypeVar("T")


Predictor = Callable[[Tensor, Points | None], Sequence[Tensor]]
"""From images (n, 3, S, S) in [0, 1] and their prompts to the logits (n, 1, h, w) of each trial that is looked at."""


@contextmanager
def single_predictor(segmenter: Segmenter) -> Iterator[Predictor]:
    """The predictor of one trial that has its segmenter to itself, to be used within the block."""
    with evaluating(segmenter), merged(segmenter):
        yield lambda images, points: [segmenter(images, points).logits]


def evaluate_each(
    predictor: Predictor,
    cached_set: CachedSet,
    indices: Sequence[int],
    prompt: Prompt,
    runtime: Runtime,
    *,
    role: Role,
    seed: int,
    probabilities: Sequence[float],
    batch_size: int = 4,
    metrics: Literal["all", "dice"] = "all",
) -> list[pd.DataFrame | NotNumbers]:
    """For each trial of ``predictor`` one row per image of ``indices``, in that order; no indices, no rows.

    A trial with a logit that is NaN has no rows but this error; the rows of the others are as they would be.

    Columns: ``dataset``, ``role``, ``image``, ``patient``, the metrics (all of ``METRICS``, or Dice alone, which is
    much cheaper), ``pixels``, how many were compared, and ``threshold``, the trial's of ``probabilities``: a pixel is
    predicted where its own is larger. An undefined metric is NaN (see ``sam2lora.metrics``).

    The logits are resized to native resolution and thresholded there, against the mask as it was drawn: a mask
    that is first resized loses its thin vessels. Images are measured on ``runtime.threads`` threads while the next
    ones are predicted; so many of them are held at native size at a time.

    The prompt of an image depends on ``seed`` and its id, not on its batch, so the rows do not depend on
    ``batch_size`` (up to the rounding of the backbone's sums). No gradient is kept, every module's training mode is
    restored, and no global random state is touched.
    """
    names: tuple[Metric, ...] = METRICS if metrics == "all" else ("dice",)

    def rows(index: int, frames: Sequence[Frame]) -> list[dict[str, object] | NotNumbers]:
        native = cached_set.native(index)
        return [
            _row(cached_set, index, native, frame, role, names, probability)
            for frame, probability in zip(frames, probabilities, strict=True)
        ]

    found = list(_threaded(rows, _frames(predictor, cached_set, indices, prompt, runtime, seed, batch_size), runtime))
    columns = ["dataset", "role", "image", "patient", *names, "pixels", "threshold"]
    return [
        joined([row[trial] for row in found], partial(pd.DataFrame, columns=columns))
        for trial in range(len(probabilities))
    ]


def joined(parts: Sequence[T | NotNumbers], join: Callable[[list[T]], pd.DataFrame]) -> pd.DataFrame | NotNumbers:
    """The table that ``join`` makes of all parts, or what was wrong with the first that is none."""
    whole = [part for part in parts if not isinstance(part, NotNumbers)]
    wrong = [part for part in parts if isinstance(part, NotNumbers)]
    return wrong[0] if wrong else join(whole)


def dice_curves(
    predictor: Predictor,
    cached_set: CachedSet,
    indices: Sequence[int],
    prompt: Prompt,
    runtime: Runtime,
    *,
    seed: int,
    cuts: Sequence[NDArray[np.float64]],
    batch_size: int = 4,
) -> list[list[NDArray[np.float64]]]:
    """For each trial of ``predictor`` the Dice of every image of ``indices`` at each of the trial's ``cuts`` (n,).

    A cut is a logit above which a pixel is predicted. The logits are those that ``evaluate_each`` scores, rounded to
    half precision. A trial without cuts costs nothing. Raises ``NotNumbers`` if a logit of a trial with cuts is NaN.
    """

    def curves(index: int, frames: Sequence[Frame]) -> list[NDArray[np.float64]]:
        native = cached_set.native(index)
        return [
            histogram(to_native(frame, native), native.mask, native.fov).dice(own) if len(own) else own
            for frame, own in zip(frames, cuts, strict=True)
        ]

    frames = _frames(predictor, cached_set, indices, prompt, runtime, seed, batch_size)
    found = list(_threaded(curves, frames, runtime))
    return [[image[trial] for image in found] for trial in range(len(cuts))]


def predict(
    segmenter: Segmenter, cached_set: CachedSet, batch: Sequence[int], prompt: Prompt, runtime: Runtime, *, seed: int
) -> NDArray[np.float32]:
    """The logits (n, S, S) of n images of a set in the model frame, on the host.

    Prompts, modes and gradients are those of ``evaluate_each``.
    """
    with single_predictor(segmenter) as predictor:
        frames = _frames(predictor, cached_set, batch, prompt, runtime, seed, len(batch))
        return np.stack([frame for _, (frame,) in frames])


def _frames(
    predictor: Predictor,
    cached_set: CachedSet,
    indices: Sequence[int],
    prompt: Prompt,
    runtime: Runtime,
    seed: int,
    batch_size: int,
) -> Iterator[tuple[int, tuple[Frame, ...]]]:
    """Each index with its logits in the model frame, of every trial."""
    for begin in range(0, len(indices), batch_size):
        batch = indices[begin : begin + batch_size]
        pixels = np.stack([cached_set.images[index] for index in batch])
        drawn = [prompt.sample(cached_set.masks[i].astype(bool), _rng(seed, cached_set.ids[i])) for i in batch]
        images = to_device(torch.from_numpy(pixels), runtime.device).permute(0, 3, 1, 2).float() / 255
        trials = [_framed(logits, pixels.shape[1:3]) for logits in predictor(images, as_tensors(drawn, runtime.device))]
        yield from zip(batch, zip(*trials, strict=True), strict=True)


def _framed(logits: Tensor, size: tuple[int, ...]) -> NDArray[np.float32]:
    frames = interpolate(logits.float(), size=size, mode="bilinear", align_corners=False)
    return np.asarray(frames[:, 0].cpu())


def _threaded(work: Callable[..., T], items: Iterable[tuple[Any, ...]], runtime: Runtime) -> Iterator[T]:
    """``work`` on every item, in their order, with ``runtime.threads`` of them at a time."""
    if runtime.threads == 1:
        yield from (work(*item) for item in items)
        return
    with ThreadPoolExecutor(runtime.threads) as pool:
        running: deque[Future[T]] = deque()
        for item in items:
            if len(running) == runtime.threads:
                yield running.popleft().result()
            running.append(pool.submit(work, *item))
        yield from (one.result() for one in running)


def _rng(seed: int, image: str) -> np.random.Generator:
    return np.random.default_rng([seed, *image.encode()])


def summary(rows: pd.DataFrame) -> dict[str, float]:
    """The mean over images of every metric, by ``"<dataset>/<metric>"``, of rows that share one role.

    Images for which a metric is undefined are left out of its mean, and counted by ``n_undefined``. A
    metric that no image defines has no entry.
    """
    return {name: float(values.mean()) for name, values in _by_dataset(rows) if values.notna().any()}


def n_undefined(rows: pd.DataFrame) -> dict[str, int]:
    """How many images a mean of ``summary`` leaves out, by ``"<dataset>/<metric>"``, zeros included."""
    return {name: int(values.isna().sum()) for name, values in _by_dataset(rows)}


def _by_dataset(rows: pd.DataFrame) -> Iterator[tuple[str, pd.Series[float]]]:
    metrics = [metric for metric in METRICS if metric in rows]
    for dataset, group in rows.groupby("dataset", sort=False):
        for metric in metrics:
            yield f"{dataset}/{metric}", group[metric]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Without gradients and in evaluation mode; afterwards every submodule is back in the mode it was in."""
    training = [part for part in module.modules() if part.training]
    for part in training:
        part.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for part in training:
            part.training = True


def _row(
    cached_set: CachedSet,
    index: int,
    native: Native,
    frame: Frame,
    role: Role,
    metrics: Sequence[Metric],
    probability: float,
) -> dict[str, object] | NotNumbers:
    cut = log(probability / (1 - probability))
    try:
        measured = measure(to_native(frame, native), native.mask, native.fov, metrics, cut)
    except NotNumbers as error:
        return error
    return {
        "dataset": cached_set.dataset.name,
        "role": role,
        "image": cached_set.ids[index],
        "patient": cached_set.patients[index],
        **measured,
        "pixels": int(np.count_nonzero(native.fov)),
        "threshold": probability,
    }
