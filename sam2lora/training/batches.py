"""The batches of an epoch: images in their order, augmented, with their prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from sam2lora.models.segmenter import Batch, Points
from sam2lora.prompts import as_tensors
from sam2lora.training.seeds import derived
from sam2lora.training.session import Session
from sam2lora.transfers import to_device


def batches(session: Session, number: int) -> Iterator[Batch]:
    """The batches of epoch ``number``.

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
        yield Batch(images, masks[:, None].float(), points)


def _dropped(session: Session, number: int, begin: int) -> bool:
    # One uniform number per batch, whatever the probability: what a low dropout takes away, a higher one takes too.
    drawn = np.random.default_rng(derived(session.replicate, "prompt dropout", number, begin)).random()
    return bool(drawn < session.config.prompt_dropout)


def _points(session: Session, number: int, pairs: Sequence[tuple[int, int]], masks: Tensor) -> Points | None:
    if not session.config.train_prompt.gives_points:
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
    pixels = to_device(torch.from_numpy(np.array(opened.images[image])), device).permute(2, 0, 1).contiguous()
    mask = to_device(torch.from_numpy(np.array(opened.masks[image])), device)
    seed = derived(session.replicate, "augment", number, opened.dataset.name, opened.ids[image])
    return session.config.augment(pixels, mask, seed)
