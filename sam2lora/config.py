"""TrialConfig: every setting that can change a result, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Literal, Self

from annotated_types import Ge, Gt, Le
from pydantic import model_validator

from sam2lora.adapters import Adapter, Full, LoRA
from sam2lora.augments import Augment, Fundus
from sam2lora.backbones import Backbone, Nano, UNet
from sam2lora.choice import choice, digest
from sam2lora.losses import BCE, FocalTversky, SoftDice, WeightedLoss, equal
from sam2lora.optimizers import AdamW, Optimizer
from sam2lora.prompts import NoPrompt, Prompt
from sam2lora.protocols import Protocol
from sam2lora.schedules import Cosine, Schedule
from sam2lora.thresholds import ChosenOnValidation, Fixed, Threshold


@choice
class Replicate:
    """What varies when the same settings are run again.

    ``seed`` draws data order, augmentations, prompts, dropout and the adapter's initial values; ``fold`` says which
    fifth of the sources' development images validates. Trials of equal replicate see the same draws, whatever
    their settings, so their differences are paired.
    """

    seed: Annotated[int, Ge(0)] = 0
    fold: Literal[0, 1, 2, 3, 4] = 0


@choice
class TrialConfig:
    """The settings of one trial.

    ``image_size``: side of the square model frame in pixels. ``batch_size``: images that are in memory together.
    ``accumulate``: batches per optimizer step; up to rounding, k batches of n images are one of k n, but for what is
    drawn or measured per batch (dropout, also of the prompt; a U-Net's BatchNorm). ``epochs``: passes over the training
    images. ``train_prompt``: given with the training images; ``test_prompt``: with the validation and the test images.
    ``prompt_dropout``: probability that a training batch goes without its prompt, so that a model that is trained with
    prompts learns to do without, too.
    ``iou_weight``: weight, beside the segmentation loss whose weights sum to 1, of how far SAM 2's quality head is off,
    the mean of ``|predicted IoU - IoU|`` (``sam2lora.losses.quality``); at 0 it is not computed. ``clip_norm``: largest
    norm of the gradient of all adapter parameters together, in the gradient's own unscaled units (None: not clipped).
    ``precision``: of the forward pass; ``"bfloat16"`` is autocast and needs no loss scaling.
    ``threshold``: the probability above which a pixel is predicted when the trial is judged at its end; validation
    after an epoch always uses 0.5. One that is chosen needs sources to be chosen on.
    """

    protocol: Protocol
    backbone: Backbone = field(default_factory=Nano)
    adapter: Adapter = field(default_factory=LoRA)
    loss: WeightedLoss = field(default_factory=lambda: equal(BCE(), SoftDice(), FocalTversky()))
    optimizer: Optimizer = field(default_factory=AdamW)
    schedule: Schedule = field(default_factory=Cosine)
    augment: Augment = field(default_factory=Fundus)
    train_prompt: Prompt = field(default_factory=NoPrompt)
    test_prompt: Prompt = field(default_factory=NoPrompt)
    prompt_dropout: Annotated[float, Ge(0), Le(1)] = 0.0
    threshold: Threshold = field(default_factory=Fixed)
    image_size: Annotated[int, Ge(32)] = 256
    batch_size: Annotated[int, Ge(1)] = 2
    accumulate: Annotated[int, Ge(1)] = 1
    epochs: Annotated[int, Ge(1)] = 8
    iou_weight: Annotated[float, Ge(0)] = 0.0
    clip_norm: Annotated[float, Gt(0)] | None = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.prompt_dropout > 0 and isinstance(self.train_prompt, NoPrompt):
            raise ValueError(
                f"prompt_dropout takes prompts away, but is {self.prompt_dropout:g} where train_prompt is NoPrompt() "
                f"and there are none: set it to 0, or give a train_prompt."
            )
        return self

    @model_validator(mode="after")
    def _a_threshold_is_chosen_on_sources(self) -> Self:
        if isinstance(self.threshold, ChosenOnValidation) and not self.protocol.sources:
            raise ValueError(
                f"threshold is chosen on the validation images of sources, but {self.protocol.kind!r} has none: "
                f"name a source, or use Fixed()."
            )
        return self

    @model_validator(mode="after")
    def _a_unet_is_trained_whole_and_takes_no_prompt(self) -> Self:
        if not isinstance(self.backbone, UNet):
            return self
        if not isinstance(self.adapter, Full):
            raise ValueError(f"a U-Net must be trained whole, but adapter is {self.adapter.kind!r}: use Full()")
        for name, prompt in (("train_prompt", self.train_prompt), ("test_prompt", self.test_prompt)):
            if not isinstance(prompt, NoPrompt):
                raise ValueError(f"a U-Net takes no prompt, but {name} is {prompt.kind!r}: use NoPrompt()")
        if self.iou_weight > 0:
            raise ValueError(f"a U-Net guesses no IoU, but iou_weight is {self.iou_weight:g}: set it to 0")
        return self


def trial_key(config: TrialConfig, replicate: Replicate, materials: Mapping[str, str]) -> str:
    """The identity of a trial: sixteen hexadecimal digits over settings, replicate and materials.

    ``materials`` names what the settings only point at, by digest: the images and masks of every data set and the
    backbone's weights. Equal keys are the same experiment, which is never trained twice.
    """
    return digest(config, replicate, dict(materials))


def steps_per_epoch(images: int, batch_size: int, accumulate: int = 1) -> int:
    """Optimizer steps in one pass over ``images``; the last step may see fewer."""
    return math.ceil(images / (batch_size * accumulate))
