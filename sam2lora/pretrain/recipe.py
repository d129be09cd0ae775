"""How nano is trained before anything is adapted: all parameters, on endless procedural pictures.

Without a prompt the target is the curves of a scene or the vessels of a procedural hospital; with points or a box it
is the structure that they name. Every step draws its pictures from (seed, step) alone, so an interrupted run resumes to
the same weights. The hospitals are those that no example, test or benchmark uses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional

from sam2lora.auxiliary import IoUError
from sam2lora.backbones import Nano
from sam2lora.datasets import PRETRAINING_HOSPITALS
from sam2lora.datasets.painter import paint
from sam2lora.errors import CheckpointError
from sam2lora.files import write_atomically
from sam2lora.losses import BCE, SoftDice
from sam2lora.models.build import build
from sam2lora.models.sam2 import Sam2Segmenter
from sam2lora.models.segmenter import Batch, Points
from sam2lora.pretrain.scenes import Bits, Pixels, plain_scene, scene
from sam2lora.prompts import Box, PointsAndBox, as_tensors
from sam2lora.prompts import Points as PointPrompt
from sam2lora.prompts.marks import PADDING, joined, padded
from sam2lora.runtime import Runtime
from sam2lora.schedules import Cosine
from sam2lora.training.objective import objective, terms_of
from sam2lora.weighted_loss import equal

_LOSS = equal(BCE(), SoftDice())
_SCHEDULE = Cosine(warmup=0.04)
_HELD_OUT = 1  # pictures of training and of scoring come from different branches of the seed
_SAVE_EVERY = 100


@dataclass(frozen=True)
class Stage:
    """``steps`` optimizer steps on ``images`` pictures of ``size`` pixels, each asked for with ``prompts`` prompts.

    A picture is encoded once for all its prompts: the same picture with another answer is what teaches the decoder
    to read the prompt. ``plain``: large shapes alone, else scenes and hospitals, whose curves are asked for without a
    prompt as well.
    """

    steps: int
    size: int
    images: int
    prompts: int
    plain: bool = False


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights. ``iou_weight``: of the quality head's error beside the segmentation loss.

    Prompts are learned first, on small plain pictures: until they are, the loss of everything else hides their gain.
    """

    seed: int = 0
    stages: tuple[Stage, ...] = (
        Stage(steps=2200, size=64, images=4, prompts=4, plain=True),
        Stage(steps=1600, size=128, images=6, prompts=3),
        Stage(steps=1100, size=256, images=3, prompts=3),
    )
    iou_weight: float = 0.05
    lr: float = 1e-3
    weight_decay: float = 0.02
    clip_norm: float = 1.0

    @property
    def steps(self) -> int:
        """Optimizer steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage(self, step: int) -> Stage:
        """The stage of a step, counted from 0."""
        ends = accumulate(stage.steps for stage in self.stages)
        return next(stage for stage, end in zip(self.stages, ends, strict=True) if step < end)


Ask = Literal["nothing", "1 point", "5 points", "box", "mixed"]
Where = Literal["scenes", "hospitals", "plain", "both"]


class Picture(NamedTuple):
    """``image`` (S, S, 3) uint8, its ``curves`` (S, S) bool and the masks that a prompt may ask for, one or more."""

    image: Pixels
    curves: Bits
    wanted: tuple[Bits, ...]


@dataclass(frozen=True)
class Questions:
    """``images`` (N, 3, S, S) in [0, 1] and what they are asked for, K prompts each.

    ``points``, ``target``: (N K, P, 2) and (N K, P), (N K, 1, S, S) in {0, 1}, the prompts of an image in a row.
    ``curves``: (N, 1, S, S), the answer to no prompt; None where none is learned.
    """

    images: Tensor
    points: Points
    target: Tensor
    curves: Tensor | None


def train(recipe: Recipe, checkpoint: Path, device: str = "cpu") -> Iterator[tuple[int, float]]:
    """Train, yielding (steps done, segmentation loss) after every step, and leave the weights in ``checkpoint``.

    Continues a checkpoint of the same recipe; one of another recipe is refused (``CheckpointError``).
    """
    segmenter = build(Nano(weights="random"), recipe.stages[-1].size, Runtime()).requires_grad_(True).to(device)
    segmenters = {stage.size: _sharing(segmenter, stage.size) for stage in recipe.stages}
    parameters = [parameter for parameter in segmenter.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    first = _resume(recipe, checkpoint, segmenter, optimizer)
    for step in range(first, recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * _SCHEDULE.factor(step, recipe.steps)
        batch = draw(recipe, step)
        total, loss = _objective(recipe, segmenters[batch.images.shape[-1]], batch, device)
        optimizer.zero_grad()
        torch.autograd.backward(total)
        torch.nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
        optimizer.step()
        if (step + 1) % _SAVE_EVERY == 0 or step + 1 == recipe.steps:
            _save(recipe, checkpoint, segmenter, optimizer, step + 1)
        yield step + 1, loss.item()


def _objective(recipe: Recipe, segmenter: Sam2Segmenter, batch: Questions, device: str) -> tuple[Tensor, Tensor]:
    """What is minimised, and the segmentation loss in it: means over the prompts, and over the pictures without one."""
    images = batch.images.to(device)
    features = segmenter.encode(images)
    each = len(batch.target) // len(batch.images)
    repeated = features.map(lambda level: level.repeat_interleave(each, 0))
    points = batch.points[0].to(device), batch.points[1].to(device)
    asked = [(repeated, Batch(images.repeat_interleave(each, 0), batch.target.to(device), points))]
    if batch.curves is not None:
        asked.append((features, Batch(images, batch.curves.to(device), None)))
    terms, weights = terms_of(_LOSS, (IoUError(weight=recipe.iou_weight),))
    weights = weights[:, None].to(device)
    totals, losses = [], []
    for seen, given in asked:
        total, values = objective(terms, weights, segmenter.decode(seen, given.points), seen, given)
        totals.append(total.mean())
        losses.append((weights * values)[: len(terms.losses)].sum(0).mean())
    return torch.stack(totals).mean(), torch.stack(losses).mean()


def _sharing(owner: Sam2Segmenter, size: int) -> Sam2Segmenter:
    """A segmenter for another image size that has the very parameters of ``owner``."""
    other = build(Nano(weights="random"), size, Runtime()).to(next(owner.parameters()).device)
    for name, parameter in owner.named_parameters():
        module, _, leaf = name.rpartition(".")
        setattr(other.get_submodule(module), leaf, parameter)
    return other


def draw(recipe: Recipe, step: int) -> Questions:
    """What a step asks."""
    rng, stage = np.random.default_rng([recipe.seed, 0, step]), recipe.stage(step)
    pictures = [picture(stage.size, "plain" if stage.plain else "both", rng) for _ in range(stage.images)]
    wanted = [mask for each in pictures for mask in _asked(each.wanted, stage.prompts, rng)]
    curves = None if stage.plain else _masks([each.curves for each in pictures])
    return Questions(_images(pictures), _prompts(wanted, "mixed", rng), _masks(wanted), curves)


def score(segmenter: Sam2Segmenter, seed: int, ask: Ask, where: Where, pictures: int = 32) -> float:
    """Mean Dice over held-out pictures (an empty prediction of an empty mask counts as 1)."""
    rng = np.random.default_rng([seed, _HELD_OUT])
    dice = []
    for _ in range(pictures):
        shown = picture(segmenter.image_size, where, rng)
        wanted = shown.curves if ask == "nothing" else shown.wanted[rng.integers(len(shown.wanted))]
        with torch.no_grad():
            prediction = segmenter(_images([shown]), None if ask == "nothing" else _prompts([wanted], ask, rng))
            found, target = _to_image(prediction.logits) > 0, _masks([wanted])
        both, total = (found * target).sum(), found.sum() + target.sum()
        dice.append(float(2 * both / total) if total > 0 else 1.0)
    return float(np.mean(dice))


def picture(size: int, where: Where, rng: Generator) -> Picture:
    """A picture of a scene or, one in three where ``"both"`` are meant, of a hospital."""
    if where == "hospitals" or (where == "both" and rng.random() < 1 / 3):
        hospital = PRETRAINING_HOSPITALS[rng.integers(len(PRETRAINING_HOSPITALS))]
        painted = paint(hospital, size, int(rng.integers(2**31)), int(rng.integers(2)))
        return Picture(painted.image, painted.vessels, (painted.disc, painted.cup, painted.vessels))
    drawn = plain_scene(size, rng) if where == "plain" else scene(size, rng, shapes=(2, 6))
    asked = drawn.structures if drawn.structures and rng.random() < 0.9 else (*drawn.structures, drawn.curves)
    return Picture(drawn.image, drawn.curves, asked)


def _asked(wanted: Sequence[Bits], count: int, rng: Generator) -> list[Bits]:
    """``count`` of the masks: all in a random order before one comes twice."""
    order = rng.permutation(len(wanted))
    return [wanted[order[k % len(order)]] for k in range(count)]


def _images(pictures: Sequence[Picture]) -> Tensor:
    stacked = torch.from_numpy(np.stack([each.image for each in pictures]))
    return stacked.permute(0, 3, 1, 2).contiguous().float() / 255


def _masks(masks: Sequence[Bits]) -> Tensor:
    return torch.from_numpy(np.stack(masks)[:, None].astype(np.float32))


def _prompts(wanted: Sequence[Bits], ask: Ask, rng: Generator) -> Points:
    """What asks for each of the masks, padded to one length: points (N, P, 2) and labels (N, P)."""
    drawn = [_prompt(ask, rng).sample(mask, rng) for mask in wanted]
    length = max(len(labels) for _, labels in drawn)
    nothing = np.zeros((0, 2), np.float32)
    filled = as_tensors([joined(marks, padded(nothing, PADDING, length - len(marks[1]))) for marks in drawn], "cpu")
    assert filled is not None
    return filled


def _prompt(ask: Ask, rng: Generator) -> PointPrompt | Box | PointsAndBox:
    if ask != "mixed":
        return Box() if ask == "box" else PointPrompt(positive=5 if ask == "5 points" else 1)
    points = PointPrompt(positive=int(rng.integers(1, 6)), negative=int(rng.integers(0, 3)))
    kind = rng.random()
    return points if kind < 0.65 else Box() if kind < 0.85 else PointsAndBox(points=points)


def _to_image(logits: Tensor) -> Tensor:
    """Logits at mask stride -> at pixel stride, so that curves thinner than a mask step count."""
    return functional.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)


def _save(recipe: Recipe, path: Path, segmenter: Sam2Segmenter, optimizer: torch.optim.Optimizer, step: int) -> None:
    content = {
        "recipe": json.dumps(asdict(recipe)),
        "step": step,
        "model": segmenter.sam.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    write_atomically(path, lambda draft: torch.save(content, draft))


def _resume(recipe: Recipe, path: Path, segmenter: Sam2Segmenter, optimizer: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    content = torch.load(path, map_location="cpu", weights_only=True)
    if content["recipe"] != json.dumps(asdict(recipe)):
        raise CheckpointError(
            f"A run resumes with the recipe that it began with, but {path} was made with {content['recipe']}: "
            f"give the same options, or another file."
        )
    segmenter.sam.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    return int(content["step"])
