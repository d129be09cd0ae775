"""TrialConfig: every setting that can change a result, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from typing import Annotated, Any, Literal, Self, cast

from annotated_types import Ge, Gt, Le
from pydantic import model_validator

from sam2lora.adapters import WHOLE, Adapter, LoRA, Part, Placeable, Site
from sam2lora.augments import Augment, Fundus
from sam2lora.auxiliary import Auxiliary
from sam2lora.backbones import Backbone, Nano
from sam2lora.choice import choice, digest
from sam2lora.decoders import Decoder, MaskDecoder
from sam2lora.losses import BCE, FocalTversky, SoftDice
from sam2lora.optimizers import AdamW, Optimizer
from sam2lora.prompters import NoPrompter, Prompter
from sam2lora.prompts import NoPrompt, Prompt
from sam2lora.protocols import Protocol
from sam2lora.schedules import Cosine, Schedule
from sam2lora.sharpness import Off, Sharpness
from sam2lora.thresholds import Fixed, Threshold
from sam2lora.weighted_loss import WeightedLoss, equal


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

    ``adapters``: what is trained on the frozen segmenter; none leaves it as it is, and no two may take one site.
    ``image_size``: side of the square model frame in pixels. ``batch_size``: images that are in memory together.
    ``accumulate``: batches per optimizer step; up to rounding, k batches of n images are one of k n, but for what is
    drawn or measured per batch (dropout, also of the prompt; a U-Net's BatchNorm). ``epochs``: passes over the training
    images. ``train_prompt``: given with the training images; ``test_prompt``: with the validation and the test images.
    ``prompt_dropout``: probability that a training batch goes without its prompt, so that a model that is trained with
    prompts learns to do without, too.
    ``decoder``: how a SAM 2 comes from features to a mask; ``prompter``: what learns to prompt it.
    ``auxiliary``: losses that are added to the segmentation loss, whose weights sum to 1. ``clip_norm``: largest
    norm of the gradient of all adapter parameters together, in the gradient's own unscaled units (None: not clipped).
    ``precision``: of the forward pass; ``"bfloat16"`` is autocast and needs no loss scaling.
    ``threshold``: the probability above which a pixel is predicted when the trial is tested at its end; validation
    after an epoch always uses 0.5. One that is chosen needs sources to be chosen on.
    """

    protocol: Protocol
    backbone: Backbone = field(default_factory=Nano)
    adapters: tuple[Adapter, ...] = (LoRA(),)
    decoder: Decoder = field(default_factory=MaskDecoder)
    prompter: Prompter = field(default_factory=NoPrompter)
    loss: WeightedLoss = field(default_factory=lambda: equal(BCE(), SoftDice(), FocalTversky()))
    auxiliary: tuple[Auxiliary, ...] = ()
    optimizer: Optimizer = field(default_factory=AdamW)
    schedule: Schedule = field(default_factory=Cosine)
    sharpness: Sharpness = field(default_factory=Off)
    augment: Augment = field(default_factory=Fundus)
    train_prompt: Prompt = field(default_factory=NoPrompt)
    test_prompt: Prompt = field(default_factory=NoPrompt)
    prompt_dropout: Annotated[float, Ge(0), Le(1)] = 0.0
    threshold: Threshold = field(default_factory=Fixed)
    image_size: Annotated[int, Ge(32)] = 256
    batch_size: Annotated[int, Ge(1)] = 2
    accumulate: Annotated[int, Ge(1)] = 1
    epochs: Annotated[int, Ge(1)] = 8
    clip_norm: Annotated[float, Gt(0)] | None = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"

    @property
    def parts(self) -> tuple[Part, ...]:
        """What is put onto the segmenter: all that the trial trains."""
        return tuple(self.named_parts.values())

    @property
    def named_parts(self) -> dict[str, Part]:
        """The parts by the path of their field, with their kind: ``"adapters.0 (lora)"``."""
        return {path: cast(Part, part) for path, part in self.choices.items() if isinstance(part, Placeable)}

    @property
    def choices(self) -> dict[str, Any]:
        """All choices by the path of their field, with their kind: ``"adapters.0 (lora)"``."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        members = {
            f"{name}.{place}": member
            for name, value in values.items()
            if isinstance(value, tuple)
            for place, member in enumerate(value)
        }
        paths = values | members
        return {f"{path} ({choice.kind})": choice for path, choice in paths.items() if hasattr(choice, "kind")}

    @property
    def weights(self) -> dict[str, str]:
        """The files of weights that are needed, by sha256: the path and the kind of what needs each."""
        digests = {path: getattr(choice, "weights_sha256", None) for path, choice in self.choices.items()}
        return {digest: path for path, digest in digests.items() if digest is not None}

    @property
    def adaptation(self) -> str:
        """The kinds of the adapters in words; ``"frozen"`` where there are none."""
        return " + ".join(adapter.kind for adapter in self.adapters) or "frozen"

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if conflicts := [*self._conflicts(), *self._conflicts_of_sites()]:
            raise ValueError("\n  ".join(conflicts))
        return self

    def _conflicts(self) -> Iterator[str]:
        for path, each in self.choices.items():
            if hasattr(each, "conflicts"):
                yield from (f"{path}: {why}" for why in each.conflicts(self))
        prompts = {"train_prompt": self.train_prompt, "test_prompt": self.test_prompt}
        if self.prompt_dropout > 0 and not self.train_prompt.gives_points:
            yield (
                f"prompt_dropout takes prompts away, but is {self.prompt_dropout:g} where train_prompt is NoPrompt() "
                f"and there are none: set it to 0, or give a train_prompt."
            )
        if self.sharpness.perturbs and not self.parts:
            yield (
                f"sharpness is {self.sharpness.kind!r}, which searches around the weights that are trained, but "
                f"nothing is trained: use Off(), or add an adapter."
            )
        if self.sharpness.selects_images and self.prompt_dropout > 0 and self.accumulate > 1:
            yield (
                f"sharpness is {self.sharpness.kind!r}, which selects images of a step that all have a prompt or none, "
                f"but prompt_dropout is {self.prompt_dropout:g} and accumulate {self.accumulate}: set prompt_dropout "
                f"to 0 or accumulate to 1."
            )
        models: dict[str, Backbone | Decoder] = {
            "a U-Net": self.backbone,
            f"the decoder {self.decoder.kind!r}": self.decoder,
        }
        for model, part in models.items():
            for name, prompt in prompts.items():
                if not part.takes_prompts and prompt.gives_points:
                    yield f"{model} takes no prompt, but {name} is {prompt.kind!r}: use NoPrompt()"
            for loss in self.auxiliary:
                if loss.reads_iou and not part.guesses_iou:
                    yield f"{model} guesses no IoU, but auxiliary has {loss.kind!r}: leave it out"
        for path in self.named_parts if self.backbone.trained_whole else ():
            if path.startswith(("decoder", "prompter")):
                yield f"a U-Net has its own decoder, but the settings have {path}: use a SAM 2"

    def _conflicts_of_sites(self) -> Iterator[str]:
        taken: list[tuple[str, Site]] = []
        for label, part in self.named_parts.items():
            try:
                sites = part.sites(self.backbone)
            except ValueError as error:
                yield f"{label}: {error}"
                continue
            shared = ((other, site) for other, site in taken if any(site.overlaps(own) for own in sites))
            if clash := next(shared, None):
                other, site = clash
                yield f"{other} and {label} both take {site.name or 'all weights'!r}: leave one of them out."
            taken += [(label, site) for site in sorted(sites)]
        if self.backbone.trained_whole and not any(site == WHOLE for _, site in taken):
            yield f"a U-Net must be trained whole, but adapters are {self.adaptation}: use Full()"

    @model_validator(mode="after")
    def _auxiliary_losses_differ(self) -> Self:
        losses = [replace(loss, weight=1.0) for loss in self.auxiliary]
        if twice := [loss for i, loss in enumerate(losses) if loss in losses[:i]]:
            raise ValueError(
                f"Every auxiliary loss must differ from the others, but {twice[0]} stands twice: add its weights."
            )
        return self


def frozen(config: TrialConfig) -> TrialConfig:
    """``config`` without adapters, for one epoch, which trains nothing: what the backbone can do as it is."""
    return replace(config, adapters=(), sharpness=Off(), epochs=1)


def trial_key(config: TrialConfig, replicate: Replicate, materials: Mapping[str, str]) -> str:
    """The identity of a trial: sixteen hexadecimal digits over settings, replicate and materials.

    ``materials`` names what the settings only point at, by digest: the images and masks of every data set and the
    backbone's weights. Equal keys are the same experiment, which is never trained twice.
    """
    return digest(config, replicate, dict(materials))


def steps_per_epoch(images: int, batch_size: int, accumulate: int = 1) -> int:
    """Optimizer steps in one pass over ``images``; the last step may see fewer."""
    return math.ceil(images / (batch_size * accumulate))
