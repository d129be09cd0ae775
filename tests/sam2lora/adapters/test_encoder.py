"""A part that takes the place of the image encoder, and one with another learning rate: nothing else knows of them."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from sam2lora.adapters import Attachment, Full, LoRA, NoPackForm, Site, count
from sam2lora.backbones import Backbone, Nano, architecture
from sam2lora.choice import choice
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.models.segmenter import Features
from sam2lora.optimizers import SGD
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime
from sam2lora.training import checkpoint
from sam2lora.training.loop import epoch
from sam2lora.training.memory import training_need
from sam2lora.training.session import Session, pristine, start


class Patches(nn.Module):
    """One convolution for each map."""

    def __init__(self, width: int, stride: int, generator: torch.Generator) -> None:
        super().__init__()
        shapes = ((width, 4 * stride), (width // 8, stride), (width // 4, 2 * stride))
        self.maps = nn.ModuleList(nn.Conv2d(3, channels, side, side) for channels, side in shapes)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 10)

    def forward(self, images: Tensor) -> Features:
        image, *finer = (each(images) for each in self.maps)
        return Features(image, tuple(finer))


@choice
class PatchEncoder:
    """An encoder of patches alone."""

    mergeable: ClassVar[bool] = False
    lr_scale: ClassVar[float] = 10.0
    kind: Literal["patch_encoder"] = "patch_encoder"

    def sites(self, backbone: Backbone) -> frozenset[Site]:
        return frozenset({Site("encoder"), Site("image_encoder")})

    def place(self, on: Attachment) -> None:
        shape = architecture(on.segmenter.backbone)
        on.swap("encoder", Patches(shape.width, shape.patch_stride, on.generator("encoder")))

    def pack_form(self, backbone: Backbone) -> NoPackForm:
        return NoPackForm("it is a test")


@choice
class Encoded(TrialConfig):
    """The settings of a trial that may have one."""

    adapters: tuple[Annotated[LoRA | Full | PatchEncoder, Field(discriminator="kind")], ...]  # type: ignore[assignment]


DECODER = LoRA(encoder="none", rank=2, alpha=4.0)
BASE = TrialConfig(
    protocol=Transfer(sources=(Synthetic(hospital="alder", images=14, size=64),)),
    backbone=Nano(weights="random"),
    optimizer=SGD(lr=0.01),
    image_size=64,
    epochs=2,
)


def encoded(*adapters: Any) -> Encoded:
    same = {each.name: getattr(BASE, each.name) for each in fields(BASE)}
    return Encoded(**{**same, "adapters": adapters})


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(cache=tmp_path / "cache")


def trained(config: TrialConfig, runtime: Runtime) -> Session:
    session = start(config, Replicate(), runtime)
    epoch(session)
    return session


def test_an_encoder_is_replaced_trained_and_taken_off_again(runtime: Runtime) -> None:
    segmenter = pristine(BASE.backbone, 64, runtime)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    before = segmenter(images).logits
    session = start(encoded(PatchEncoder()), Replicate(), runtime)
    first = session.attachment.state()
    assert not torch.equal(session.segmenter(images).logits, before)
    epoch(session)
    assert all(not torch.equal(tensor, first[name]) for name, tensor in session.attachment.state().items())
    assert torch.equal(pristine(BASE.backbone, 64, runtime)(images).logits, before)


def test_features_that_lie_in_files_are_not_taken_for_its_own(runtime: Runtime) -> None:
    start(encoded(DECODER), Replicate(), runtime)
    config = encoded(PatchEncoder(), DECODER)
    one, other = (trained(config, each) for each in (runtime, replace(runtime, features_mib=0)))
    assert one.curve[0]["loss/total"] == other.curve[0]["loss/total"]


def test_a_trial_with_an_encoder_is_resumed_counted_and_planned(runtime: Runtime, tmp_path: Path) -> None:
    config = encoded(PatchEncoder())
    numbers = sum(tensor.numel() for tensor in start(config, Replicate(), runtime).attachment.state().values())
    assert count(config.parts, config.backbone) == numbers
    assert training_need(config).own < training_need(encoded(LoRA(rank=2))).own
    session = trained(config, runtime)
    checkpoint.save(session, tmp_path / "here.pt")
    epoch(session)
    resumed = start(config, Replicate(), runtime)
    checkpoint.resume(resumed, tmp_path / "here.pt")
    epoch(resumed)
    assert all(torch.equal(t, session.attachment.state()[name]) for name, t in resumed.attachment.state().items())


def test_an_adapter_inside_the_encoder_that_is_gone_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"adapters\.0 \(patch_encoder\) and adapters\.1 \(lora\) both take"):
        encoded(PatchEncoder(), LoRA(rank=2))


def test_every_part_is_a_group_with_its_share_of_the_rate(runtime: Runtime) -> None:
    session = trained(encoded(PatchEncoder(), DECODER), runtime)
    rates = [group["lr"] / session.schedule.get_last_lr()[1] for group in session.optimizer.param_groups]
    assert rates == [pytest.approx(10.0), 1.0]
    alone = trained(encoded(DECODER), runtime)
    assert session.curve[0]["lr"] == pytest.approx(alone.curve[0]["lr"], rel=1e-12), "the curve has the optimizer's"
    parts = session.attachment.parameters_by_part
    assert [all(name.startswith("encoder.") for name in part) for part in parts] == [True, False]
    assert {**parts[0], **parts[1]}.keys() == session.attachment.parameters.keys()


def test_parts_of_one_rate_train_as_one_group(runtime: Runtime) -> None:
    """Bit by bit, whatever the groups: the norm of the gradient is summed in the order of the modules."""
    halves = (LoRA(encoder="none", rank=2, alpha=4.0), LoRA(decoder="none", rank=2, alpha=4.0))
    session, whole = trained(encoded(*halves), runtime), trained(encoded(LoRA(rank=2, alpha=4.0)), runtime)
    assert len(session.optimizer.param_groups) == 2
    assert all(torch.equal(t, whole.attachment.state()[name]) for name, t in session.attachment.state().items())
