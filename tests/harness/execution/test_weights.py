"""Parts that need files of weights: named by digest, found by the runtime, refused before anything runs."""

from __future__ import annotations

import shutil
from dataclasses import fields
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
import torch
from pydantic import Field
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.execution.preparation import prepare
from sam2lora.adapters import Attachment, Full, LoRA, NoPackForm, Site, count
from sam2lora.backbones import Backbone, Sha256, architecture
from sam2lora.choice import choice
from sam2lora.config import Replicate, TrialConfig, trial_key
from sam2lora.errors import CheckpointError
from sam2lora.models.weights import files_by_digest
from sam2lora.runtime import Runtime
from sam2lora.training.memory import training_need
from sam2lora.training.session import start

QUIET = Console(quiet=True)


class Shift(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.shift


@choice
class Shifted:
    """A shift of the patches, at first the one in a file."""

    mergeable: ClassVar[bool] = False
    kind: Literal["shifted"] = "shifted"
    checkpoint: Sha256

    @property
    def weights_sha256(self) -> str:
        return self.checkpoint

    def sites(self, backbone: Backbone) -> frozenset[Site]:
        return frozenset({Site("image_encoder.trunk.patch_embed", "after")})

    def place(self, on: Attachment) -> None:
        module = Shift(architecture(on.segmenter.backbone).embed_dim)
        if (state := on.weights(self.weights_sha256)) is not None:
            module.load_state_dict(dict(state))
        on.hook("image_encoder.trunk.patch_embed", module, "after")

    def pack_form(self, backbone: Backbone) -> NoPackForm:
        return NoPackForm("it is a test")


@choice
class Shiftable(TrialConfig):
    """The settings of a trial that has one of these."""

    adapters: tuple[Annotated[LoRA | Full | Shifted, Field(discriminator="kind")], ...]  # type: ignore[assignment]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file({"shift": torch.arange(16.0)}, tmp_path / "shift.safetensors")
    return tmp_path / "shift.safetensors"


@pytest.fixture
def given(runtime: Runtime, file: Path) -> Runtime:
    return Runtime(cache=runtime.cache, weights=files_by_digest([file]))


@pytest.fixture
def config(tiny: TrialConfig, given: Runtime) -> Shiftable:
    (digest,) = given.weights
    same = {each.name: getattr(tiny, each.name) for each in fields(tiny)}
    return Shiftable(**{**same, "adapters": (Shifted(checkpoint=digest),)})


def test_a_part_starts_from_its_file(config: Shiftable, given: Runtime) -> None:
    (tensor,) = start(config, Replicate(), given).attachment.state().values()
    assert torch.equal(tensor, torch.arange(16.0))


def test_what_needs_shapes_alone_needs_no_file(config: Shiftable) -> None:
    assert count(config.parts, config.backbone) == 16
    assert training_need(config).own > 0


def test_missing_files_are_refused_by_the_name_of_what_needs_them(config: Shiftable, runtime: Runtime) -> None:
    (digest,) = config.weights
    with pytest.raises(CheckpointError, match=rf"adapters\.0 \(shifted\) needs the file of sha256 {digest}"):
        prepare([config], [Replicate()], runtime, 1, QUIET)


def test_the_key_depends_on_the_digest_and_not_on_the_path(config: Shiftable, given: Runtime, file: Path) -> None:
    moved = Runtime(cache=given.cache, weights=files_by_digest([Path(shutil.copy(file, file.with_stem("moved")))]))
    one, other = (prepare([config], [Replicate()], runtime, 1, QUIET).digests for runtime in (given, moved))
    (digest,) = config.weights
    assert one["weights/shifted"] == digest[:16]
    assert trial_key(config, Replicate(), one) == trial_key(config, Replicate(), other)


def test_a_file_that_changed_is_refused(config: Shiftable, given: Runtime, file: Path) -> None:
    save_file({"shift": torch.ones(16)}, file)
    with pytest.raises(CheckpointError, match="must have the sha256 that the settings name"):
        start(config, Replicate(), given)
