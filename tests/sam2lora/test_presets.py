"""Presets: what they say, that they say what was assumed, and that each trains on every backbone."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import get_args

import pytest
import torch

from sam2lora.adapters import count, share
from sam2lora.backbones import Backbone, Nano, Sam2, Size, architecture
from sam2lora.choice import from_json, to_json
from sam2lora.config import Replicate, TrialConfig, steps_per_epoch
from sam2lora.datasets import Synthetic
from sam2lora.presets import PRESETS, SAM2LORA_R64, SAM2LORA_R256, TEST_SHARES, VESSELS
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime
from sam2lora.training.loop import epoch
from sam2lora.training.session import start

every_preset = pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
BACKBONES: list[Backbone] = [Nano(weights="random"), *(Sam2(size=size) for size in get_args(Size))]


@every_preset
def test_a_preset_is_a_trial_like_any_other(preset):  # type: ignore[no-untyped-def]
    assert from_json(TrialConfig, to_json(preset.config)) == preset.config
    assert PRESETS[preset.name] is preset


@every_preset
def test_every_assumption_names_a_field_and_its_reason(preset):  # type: ignore[no-untyped-def]
    known = {field.name for field in fields(TrialConfig)}
    assert {name.partition(".")[0] for name in preset.assumed} <= known
    assert all(len(why.split()) > 5 for why in preset.assumed.values())


def test_ranks_and_their_shares() -> None:
    for preset, expected in ((SAM2LORA_R64, 0.0343), (SAM2LORA_R256, 0.1371)):
        adapter = preset.config.adapters[0]
        assert adapter.alpha == 2 * adapter.rank
        assert share((adapter,), Sam2(size="large")) == pytest.approx(expected, abs=1e-4)


@every_preset
def test_the_loss_is_theirs_up_to_one_common_factor(preset):  # type: ignore[no-untyped-def]
    (iou,) = preset.config.auxiliary
    parts = {**preset.config.loss.weights, "iou": iou.weight}
    assert {name: 3 * weight for name, weight in parts.items()} == pytest.approx(
        {"bce": 1.0, "soft_dice": 1.0, "focal_tversky": 1.0, "iou": 0.1}
    )


@every_preset
def test_every_set_of_a_pool_says_how_much_of_it_was_tested(preset):  # type: ignore[no-untyped-def]
    assert {dataset.name for dataset in preset.config.protocol.sources} <= TEST_SHARES.keys()


def test_the_epochs_make_the_steps_of_the_paper() -> None:
    """The committed splits of the vessel pool: all its images are known without its files."""
    images = sum(split not in ("test", "0") for one in VESSELS.datasets for split in one.assignment(()).values())
    steps = SAM2LORA_R64.config.epochs * steps_per_epoch(images, 2, 4)
    assert steps == pytest.approx(30_000, rel=0.005)


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda backbone: getattr(backbone, "size", "nano"))
@pytest.mark.parametrize("preset", [SAM2LORA_R64, SAM2LORA_R256], ids=["r64", "r256"])
def test_a_preset_takes_a_step_on_every_backbone(backbone: Backbone, preset, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """At the smallest size that the architecture allows, on random weights, two images and one step."""
    side = math.lcm(architecture(backbone).multiple, 32)  # type: ignore[arg-type]
    config = replace(
        preset.config,
        backbone=backbone,
        protocol=Transfer(sources=(Synthetic(hospital="alder", images=4, size=64),)),
        image_size=side,
        batch_size=1,
        accumulate=2,
        epochs=1,
        precision="float32",
    )
    session = start(config, Replicate(), Runtime(cache=tmp_path))
    before = {name: p.detach().clone() for name, p in session.segmenter.named_parameters() if p.requires_grad}
    entry = epoch(session)
    assert all(math.isfinite(value) for name, value in entry.items())
    assert {"loss/total", "loss/iou"} <= entry.keys()
    assert session.cost.trainable_parameters == count(config.parts, backbone)
    moved = [
        name for name, p in session.segmenter.named_parameters() if name in before and not torch.equal(p, before[name])
    ]
    assert moved
    assert all(name.endswith((".A", ".B")) for name in moved)
