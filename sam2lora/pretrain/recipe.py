"""How nano is trained before anything is adapted: all parameters, on endless procedural scenes.

Without a prompt the target is the curves; with points it is the structure that they lie on. Every step draws its
scenes from (seed, step) alone, so an interrupted run resumes to the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from sam2lora.backbones import Nano
from sam2lora.errors import CheckpointError
from sam2lora.losses import BCE, SoftDice, equal
from sam2lora.model import Points, Sam2Segmenter, Segmenter, build
from sam2lora.pretrain.scenes import scene
from sam2lora.prompts import Points as PointPrompt
from sam2lora.prompts import as_tensors
from sam2lora.runtime import Runtime
from sam2lora.schedules import Cosine

_LOSS = equal(BCE(), SoftDice())
_SCHEDULE = Cosine(warmup=0.04)
_HELD_OUT = 1  # scenes of training and of scoring come from different branches of the seed
_SAVE_EVERY = 100


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights. Lengths in optimizer steps, sides in pixels.

    The first ``small_share`` of the steps sees ``small_batch`` scenes of ``small_size``: a step costs a quarter per
    scene, and what a curve is does not depend on the size of the picture. The rest sees ``batch`` scenes of ``size``.
    ``pointed``: share of the steps with point prompts.
    """

    seed: int = 0
    steps: int = 4500
    small_share: float = 0.6
    small_size: int = 128
    small_batch: int = 8
    size: int = 256
    batch: int = 4
    pointed: float = 0.25
    lr: float = 1.5e-3
    weight_decay: float = 0.02
    clip_norm: float = 1.0


@dataclass(frozen=True)
class Batch:
    """``images`` (N, 3, S, S) in [0, 1], ``target`` (N, 1, S, S) in {0, 1}, and the points that ask for it, if any."""

    images: Tensor
    target: Tensor
    points: Points | None


def train(recipe: Recipe, checkpoint: Path) -> Iterator[tuple[int, float]]:
    """Train, yielding (steps done, loss) after every step, and leave the weights in ``checkpoint``.

    Continues a checkpoint of the same recipe; one of another recipe is refused (``CheckpointError``).
    """
    segmenters = {size: _trainable(size) for size in (recipe.small_size, recipe.size)}
    segmenter = segmenters[recipe.size]
    parameters = [parameter for parameter in segmenter.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    first = _resume(recipe, checkpoint, segmenter, optimizer)
    for step in range(first, recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * _SCHEDULE.factor(step, recipe.steps)
        batch = draw(recipe, step)
        weights: dict[str, Tensor] = dict(segmenter.named_parameters())
        logits = functional_call(segmenters[batch.images.shape[-1]], weights, (batch.images, batch.points))
        loss = _LOSS(_to_image(logits), batch.target)[0].mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
        optimizer.step()
        if (step + 1) % _SAVE_EVERY == 0 or step + 1 == recipe.steps:
            _save(recipe, checkpoint, segmenter, optimizer, step + 1)
        yield step + 1, loss.item()


def _trainable(size: int) -> Sam2Segmenter:
    return build(Nano(weights="random"), size, Runtime()).requires_grad_(True)


def draw(recipe: Recipe, step: int) -> Batch:
    """The batch of a step."""
    rng = np.random.default_rng([recipe.seed, 0, step])
    small = step < recipe.small_share * recipe.steps
    pointed = rng.random() < recipe.pointed
    count, size = (recipe.small_batch, recipe.small_size) if small else (recipe.batch, recipe.size)
    return _batch(count, size, pointed, rng)


def score(segmenter: Segmenter, seed: int, pointed: bool, scenes: int = 32) -> float:
    """Mean Dice over held-out scenes (an empty prediction of an empty mask counts as 1)."""
    rng = np.random.default_rng([seed, _HELD_OUT, int(pointed)])
    dice = []
    for _ in range(scenes):
        batch = _batch(1, segmenter.image_size, pointed, rng)
        with torch.no_grad():
            found = _to_image(segmenter(batch.images, batch.points)) > 0
        both = (found * batch.target).sum()
        total = found.sum() + batch.target.sum()
        dice.append(float(2 * both / total) if total > 0 else 1.0)
    return float(np.mean(dice))


def _batch(count: int, size: int, pointed: bool, rng: np.random.Generator) -> Batch:
    drawn = [scene(size, rng) for _ in range(count)]
    images = torch.from_numpy(np.stack([each.image for each in drawn])).permute(0, 3, 1, 2).contiguous().float() / 255
    if not pointed:
        return Batch(images, _masks([each.curves for each in drawn]), None)
    wanted = [(each.curves, *each.structures)[rng.integers(0, 1 + len(each.structures))] for each in drawn]
    prompt = PointPrompt(positive=int(rng.integers(1, 6)), negative=int(rng.integers(0, 3)))
    return Batch(images, _masks(wanted), as_tensors([prompt.sample(mask, rng) for mask in wanted], "cpu"))


def _masks(masks: list[np.ndarray[Any, np.dtype[np.bool_]]]) -> Tensor:
    return torch.from_numpy(np.stack(masks)[:, None].astype(np.float32))


def _to_image(logits: Tensor) -> Tensor:
    """Logits at mask stride -> at pixel stride, so that curves thinner than a mask step count."""
    return functional.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)


def _save(recipe: Recipe, path: Path, segmenter: Sam2Segmenter, optimizer: torch.optim.Optimizer, step: int) -> None:
    content = {
        "recipe": asdict(recipe),
        "step": step,
        "model": segmenter.sam.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    partial = path.with_name(f"{path.name}.partial")
    torch.save(content, partial)
    partial.replace(path)


def _resume(recipe: Recipe, path: Path, segmenter: Sam2Segmenter, optimizer: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    content = torch.load(path, weights_only=True)
    if content["recipe"] != asdict(recipe):
        raise CheckpointError(
            f"A run resumes with the recipe that it began with, but {path} was made with {content['recipe']}: "
            f"give the same options, or another file."
        )
    segmenter.sam.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    return int(content["step"])
