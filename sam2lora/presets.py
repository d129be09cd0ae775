"""Presets: published settings under a name, with every assumption that was made in writing them down.

SAM2LoRA (Mandal et al. 2025, arXiv 2510.10288) is reproduced from its published code, as far as a fundus study can be:
what the code leaves open, contradicts, or does in a way that is a defect, is listed field by field in ``assumed``.

On a command line: ``python -m sam2lora.train --preset sam2lora_r64``. In Python, and in a search space::

    BASE = SAM2LORA_R64.config
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from sam2lora.adapters import LoRA
from sam2lora.augments import Sam2Lora
from sam2lora.auxiliary import IoUError
from sam2lora.backbones import Sam2
from sam2lora.checkpoints import published_file
from sam2lora.config import TrialConfig
from sam2lora.datasets import (
    G1020,
    HRF,
    ChaseDB1,
    DrishtiGS1,
    Drive,
    Fives,
    Grape,
    Origa,
    Papila,
    Refuge2,
    Stare,
)
from sam2lora.losses import BCE, FocalTversky, SoftDice
from sam2lora.optimizers import AdamW
from sam2lora.prompts import NoPrompt, Points
from sam2lora.protocols import Pooled
from sam2lora.schedules import CosineRestarts
from sam2lora.weighted_loss import equal

VESSELS = Pooled(datasets=(ChaseDB1(), Drive(), Fives(), HRF(), Stare()))
"""The vessel pool: STARE is in the code and in the results of SAM2LoRA, and missing from its list of data sets."""

DISCS = Pooled(datasets=(DrishtiGS1(), G1020(), Grape(), Origa(), Papila(), Refuge2()))
"""The disc pool. IDRiD has a loader there, and takes part neither in the training nor in the results."""

LARGE = Sam2(size="large", checkpoint=published_file(Sam2(size="large")).sha256)
"""The backbone, on Meta's weights."""

TEST_SHARES: Mapping[str, str] = MappingProxyType(
    {
        "drive": "20 of 40, official",
        "fives": "200 of 800, official",
        "chase_db1": "27 %, random images",
        "hrf": "27 %, random images",
        "stare": "25 %, random images",
        "drishti_gs1": "51 of 101, official",
        "refuge2": "400 of 1200, official",
        "g1020": "25 %, random images",
        "grape": "25 %, random images",
        "origa": "25 %, random images",
        "papila": "25 %, random images",
    }
)
"""What SAM2LoRA tests on, by data set. Its random splits depend on file order and ignore patients, unlike ours."""


@dataclass(frozen=True)
class Preset:
    """Settings under a name. ``assumed``: for each field that the source does not settle, what was decided and why."""

    name: str
    title: str
    config: TrialConfig
    assumed: Mapping[str, str]


_ASSUMED = {
    "protocol": "splits are ours: by patient, with a fold that validates; SAM2LoRA draws images (see TEST_SHARES) and "
    "has no validation part, so that it selects by its training loss",
    "backbone": "Meta's SAM 2.1 large, downloaded on first use; their code leaves the checkpoint open, and without one "
    "its weights are random",
    "loss": "weights of one third each for theirs of 1, which an optimizer of the Adam type does not tell apart; sums "
    "run over each image, theirs over the batch; 1 : 1 : 1 is in the code, the paper's text was not to be had",
    "auxiliary": "0.1 beside weights of 1 is 0.1 / 3 beside thirds: the common factor 1/3 is that of the whole loss; "
    "the IoU is that of the thresholded mask, which the head was pretrained to predict",
    "clip_norm": "1.0 on gradients as they are, which on thirds is 3.0 on their loss; theirs is taken of gradients "
    "that are scaled for half precision, which makes it thousands of times smaller",
    "precision": "bfloat16, which needs no scaling, for their float16 with scaling",
    "epochs": "theirs counts 120 000 batches of 2, which is 30 000 optimizer steps and 30 restarts: as many epochs as "
    "make 30 000 steps on the complete pool less one fold",
    "augment": "one crop to the frame for theirs to 1000 pixels and a resize to 1024; sharpness in half of its cases, "
    "torchvision's default",
    "train_prompt": "five uniform points of the mask as drawn; theirs are drawn after an erosion by 2 x 2, which "
    "leaves nothing of thin vessels",
    "test_prompt": "none, which looks at no label; theirs averages over none, points from the truth and its box",
    "image_size": "photographs keep their shape inside the square of 1024; theirs are stretched to it",
}


def _config(rank: int) -> TrialConfig:
    return TrialConfig(
        protocol=VESSELS,
        backbone=LARGE,
        adapters=(LoRA(rank=rank, alpha=2.0 * rank, dropout=0.1),),
        loss=equal(BCE(), SoftDice(), FocalTversky()),
        auxiliary=(IoUError(weight=0.1 / 3),),
        optimizer=AdamW(lr=1e-4, weight_decay=3e-4),
        schedule=CosineRestarts(period=1000),
        augment=Sam2Lora(),
        train_prompt=Points(positive=5),
        test_prompt=NoPrompt(),
        image_size=1024,
        batch_size=2,
        accumulate=4,
        epochs=448,
        clip_norm=1.0,
        precision="bfloat16",
    )


def _preset(name: str, rank: int, why: str) -> Preset:
    assumed = MappingProxyType({**_ASSUMED, "adapters.0.rank": why})
    return Preset(name, f"SAM2LoRA at rank {rank}, vessels", _config(rank), assumed)


def _of_discs(vessels: Preset) -> Preset:
    return replace(
        vessels,
        name=f"{vessels.name}_discs",
        title=vessels.title.replace("vessels", "optic discs"),
        config=replace(vessels.config, protocol=DISCS, epochs=102),
    )


SAM2LORA_R64 = _preset("sam2lora_r64", 64, "of the ranks that were run, the largest with less than 5 % trainable")
SAM2LORA_R256 = _preset("sam2lora_r256", 256, "the README's; 13.7 % trainable on the large backbone, not under 5 %")

PRESETS: Mapping[str, Preset] = MappingProxyType(
    {preset.name: preset for vessels in (SAM2LORA_R64, SAM2LORA_R256) for preset in (vessels, _of_discs(vessels))}
)
"""Every preset by its name."""
