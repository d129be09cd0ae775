"""A training step on a GPU waits for nothing: shown on a GPU that is not there (`benchmarks.counting`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.optim.lr_scheduler import LambdaLR
from torch.utils._pytree import tree_leaves

from benchmarks.counting import Tally, stand_in
from sam2lora.adapters import Attachment, Full, LastBlocks, LoRA
from sam2lora.augments import Augment, Flips, Fundus, NoAugment, Sam2Lora
from sam2lora.auxiliary import IoUError
from sam2lora.backbones import UNet
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.losses import BCE, Boundary, ClDice, Focal, FocalTversky, SoftDice
from sam2lora.models.build import shapes
from sam2lora.models.segmenter import Segmenter
from sam2lora.optimizers import SGD, AdamW, Group
from sam2lora.prompts import NoPrompt, PointsAndBox, Prompt
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime
from sam2lora.training import loop, packing
from sam2lora.training.batches import Batch, batches
from sam2lora.training.loop import Forward, Lane, SingleForward, enter, lockstep, step
from sam2lora.training.session import Session, groups_of, start
from sam2lora.weighted_loss import equal


class Watch(Tally):
    """A tally that also lists what draws random numbers on the host."""

    def __init__(self) -> None:
        super().__init__("cuda", answer=1.0)
        self.drawn: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_dispatch__(func, types, args, kwargs)
        if torch.Tag.nondeterministic_seeded in func.tags:
            first = next(leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
            self.drawn += [str(func)] if first.device.type == "cpu" else []
        return result


@dataclass
class Stream:
    """Stands in for CUDA's current stream. ``waited``: events in the order that they were waited for, each with how
    many operations had been queued when it was recorded and when it was waited for."""

    tally: Watch
    waited: list[tuple[int, int]] = field(default_factory=list)

    def record_event(self) -> Event:
        return Event(self, self.queued)

    @property
    def queued(self) -> int:
        return len(self.tally.operations)


@dataclass
class Event:
    stream: Stream
    queued: int

    def synchronize(self) -> None:
        self.stream.waited.append((self.queued, self.stream.queued))


def epoch(
    configs: Sequence[TrialConfig], runtime: Runtime, monkeypatch: pytest.MonkeyPatch, seeds: Sequence[int] = (0, 0, 0)
) -> Stream:
    """What the steps of an epoch ask of a GPU, of one trial alone or of several in a pack; every number that is asked
    for is 1."""
    sessions = [start(config, Replicate(seed=seed), runtime) for config, seed in zip(configs, seeds, strict=False)]
    made = list(batches(sessions[0], 1))
    segmenter = shapes(configs[0].backbone, configs[0].image_size).requires_grad_(False)
    tally = Watch()
    stream = Stream(tally)

    def steps(sessions: Sequence[Session], forward: Forward) -> list[Lane]:
        lanes = iter([enter(session) for session in sessions])  # sends the weights of losses, before any step
        monkeypatch.setattr(loop, "enter", lambda session: next(lanes))
        with tally:
            return lockstep(sessions, forward)

    with stand_in():
        segmenter.to_empty(device="cuda").train()
        there = [_sent(batch) for batch in made]
        monkeypatch.setattr(loop, "batches", lambda session, number: iter(there))
        monkeypatch.setattr(loop, "prefetch_on_stream", lambda items, device: items)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
        monkeypatch.setattr(packing, "lockstep", steps)
        if len(sessions) == 1:
            alone = _on_gpu(sessions[0], segmenter)
            lanes = steps([alone], SingleForward(alone))
        else:
            lanes = packing.advance([_on_gpu(session, segmenter) for session in sessions])
    assert not any(lane.fault for lane in lanes)
    return stream


def _on_gpu(session: Session, segmenter: Segmenter) -> Session:
    with Tally("cpu", answer=0.0):  # a seed
        attachment = Attachment(segmenter, session.config.parts)
    groups = groups_of(session.config, attachment) or [Group("nothing", {"": nn.Parameter(torch.zeros(()))})]
    optimizer = session.config.optimizer.build(groups)
    schedule = LambdaLR(optimizer, session.schedule.lr_lambdas)
    runtime = replace(session.runtime, device="cuda")
    return replace(session, attachment=attachment, optimizer=optimizer, schedule=schedule, runtime=runtime)


def _sent(batch: Batch) -> Batch:
    images, masks, points = batch
    marks = points and (points[0].to("cuda"), points[1].to("cuda"))
    return Batch(images.to("cuda"), masks.to("cuda"), marks)


SHORT = Transfer(sources=(Synthetic(hospital="alder", images=8, size=64),))
EVERY_LOSS = equal(BCE(pos_weight=2.0), SoftDice(), FocalTversky(), Focal(), ClDice(), Boundary())


def check(stream: Stream) -> None:
    tally = stream.tally
    assert len(tally.operations) > 500
    assert tally.waits == []
    assert tally.copies == 0
    assert tally.drawn == [], "meanwhile a thread seeds the generator of the host and sets it back"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"adapters": (LoRA(rank=2, dropout=0.1),), "loss": EVERY_LOSS, "auxiliary": (IoUError(weight=0.1),)},
        {"adapters": (LoRA(encoder="none", rank=2, dropout=0.1, dropout_site="input"),)},
        {"adapters": (LoRA(blocks=LastBlocks(count=2), decoder="none", rank=2),)},
        {"adapters": (Full(),), "optimizer": SGD(nesterov=True, weight_decay=0.1), "clip_norm": None},
        {"adapters": ()},
        {"backbone": UNet(), "adapters": (Full(),)},
        {"train_prompt": PointsAndBox(), "test_prompt": PointsAndBox(), "prompt_dropout": 0.5},
        {"accumulate": 2, "optimizer": AdamW()},
    ],
    ids=["plain", "every loss", "decoder", "last blocks", "full", "frozen", "unet", "prompts", "accumulated"],
)
def test_a_step_waits_for_nothing_and_copies_nothing_from_the_host(
    tiny: TrialConfig, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], precision: str
) -> None:
    config = replace(tiny, **{"protocol": SHORT, "optimizer": AdamW(), "precision": precision, **change})
    check(epoch([config], runtime, monkeypatch))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"adapters": (LoRA(encoder="none"),)},
        {"adapters": (LoRA(encoder="qv", dropout_site="input"),), "accumulate": 2},
        {"train_prompt": PointsAndBox(), "test_prompt": PointsAndBox()},
    ],
    ids=["everywhere", "decoder", "accumulated", "prompts"],
)
def test_a_step_of_a_pack_waits_for_nothing_and_copies_nothing_from_the_host(
    tiny: TrialConfig, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], precision: str
) -> None:
    """Two equal trials, with dropout of their own where they may, and one with another rank, loss and optimizer."""
    config = replace(tiny, **{"protocol": SHORT, "optimizer": AdamW(), "precision": precision, **change})
    assert isinstance(config.adapters[0], LoRA)
    low, high = (replace(config.adapters[0], rank=rank, dropout=dropout) for rank, dropout in ((2, 0.1), (3, 0.3)))
    other = replace(
        config, adapters=(high,), loss=EVERY_LOSS, auxiliary=(IoUError(weight=0.1),), optimizer=SGD(), clip_norm=None
    )
    configs = [replace(config, adapters=(low,)), other, replace(config, adapters=(low,))]
    check(epoch(configs, runtime, monkeypatch, (0, 0, 0 if "train_prompt" in change else 1)))


def test_the_host_waits_for_a_batch_when_the_next_one_is_queued(
    tiny: TrialConfig, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five batches: what was queued when an event was recorded, and when it was waited for."""
    waited = epoch([replace(tiny, optimizer=AdamW())], runtime, monkeypatch).waited
    assert len(waited) == 6, "a verdict on each batch, and one on the weights"
    batch = waited[1][0] - waited[0][0]
    assert all(then - recorded > 0.9 * batch for recorded, then in waited[:4]), "a whole batch lies in between"
    assert waited[4][1] == waited[4][0], "nothing is left to queue"


def test_photographs_go_to_a_gpu_as_bytes_and_without_a_wait(tiny: TrialConfig, runtime: Runtime) -> None:
    session = start(tiny, Replicate(), runtime)
    session.runtime = replace(runtime, device="cuda")
    with stand_in(), Tally("cuda") as tally:
        images, masks, points = next(batches(session, 1))
    assert (images.device.type, images.dtype, images.shape) == ("cuda", torch.float32, (2, 3, 64, 64))
    assert (masks.device.type, masks.dtype, masks.shape) == ("cuda", torch.float32, (2, 1, 64, 64))
    assert points is None
    assert tally.waits == []
    sent = [operation for operation in tally.operations if operation.copies]
    assert [operation.dtype for operation in sent] == 4 * [torch.uint8], "two images and two masks"


@pytest.mark.parametrize("augment", [NoAugment(), Flips(), Fundus(), Sam2Lora()], ids=lambda augment: augment.kind)
def test_an_augment_works_where_the_image_lies_and_asks_it_for_nothing(augment: Augment) -> None:
    """On torch's meta device, which has no numbers to ask for. torchvision sends its small tables there."""
    image = torch.zeros(3, 64, 64, dtype=torch.uint8, device="meta")
    with Tally("meta") as tally:
        for seed in range(8):
            moved, cover = augment(image, image[0], seed)
            assert (moved.device.type, moved.dtype, moved.shape) == ("meta", torch.uint8, (3, 64, 64))
            assert (cover.device.type, cover.dtype, cover.shape) == ("meta", torch.uint8, (64, 64))
    assert all(operation.copies for operation in tally.operations if operation.waits), "and nothing comes back"


def test_colours_change_on_the_gpu_without_a_wait() -> None:
    with stand_in():
        image = torch.zeros(3, 64, 64, dtype=torch.uint8, device="cuda")
        with Tally("cuda") as tally:
            changed = Fundus()._recoloured(image, np.random.default_rng(0))
    assert (changed.device.type, changed.dtype, changed.shape) == ("cuda", torch.uint8, (3, 64, 64))
    assert (tally.waits, tally.copies) == ([], 1), "the turn of the colours goes there from pinned memory"


@pytest.mark.parametrize("prompt", [NoPrompt(), PointsAndBox()], ids=lambda prompt: prompt.kind)
def test_a_step_can_be_traced(tiny: TrialConfig, runtime: Runtime, prompt: Prompt) -> None:
    """What asks a tensor for its value cannot be: a second witness, on the CPU."""
    config = replace(tiny, train_prompt=prompt, test_prompt=prompt, loss=EVERY_LOSS, auxiliary=(IoUError(weight=0.1),))
    session = start(config, Replicate(), runtime)
    images, masks, points = next(batches(session, 1))
    lane = enter(session)

    def body(images: Tensor, masks: Tensor) -> Tensor:
        (advanced,) = step([lane], SingleForward(session), [(Batch(images, masks, points),)], [0])
        assert advanced.norm is not None
        return advanced.objective

    traced = make_fx(body)(images, masks)
    names = {str(node.target) for node in traced.graph.nodes}
    assert "aten.convolution_backward.default" in names or "aten.mm.default" in names
