"""The laws of a step that asks for several passes, over kinds of sharpness that ask in every way there is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from sam2lora.adapters import Full, LoRA, count
from sam2lora.augments import NoAugment
from sam2lora.backbones import Nano, UNet
from sam2lora.config import Replicate, TrialConfig, frozen
from sam2lora.datasets import Synthetic
from sam2lora.optimizers import SGD, AdamW
from sam2lora.prompts import Points
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime
from sam2lora.sharpness import Off
from sam2lora.training import checkpoint, loop, packing
from sam2lora.training.batches import batches
from sam2lora.training.loop import SingleForward, lockstep
from sam2lora.training.memory import training_need
from sam2lora.training.session import Session, pristine, start
from tests.sam2lora.sharpness.kinds import KINDS, Rhythmic, Selecting, Sparse, TwoPass, climb, restore, sharp

every_kind = pytest.mark.parametrize("kind", [Off, *KINDS], ids=lambda kind: kind().kind)
new_kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind().kind)


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def tiny() -> TrialConfig:
    """Eight training images of 64 pixels in batches of two, with dropout."""
    return TrialConfig(
        protocol=Transfer(sources=(Synthetic(hospital="alder", images=12, size=64),)),
        backbone=Nano(weights="random"),
        adapters=(LoRA(rank=2, alpha=4.0, dropout=0.1),),
        optimizer=SGD(lr=0.1),
        augment=NoAugment(),
        image_size=64,
        epochs=3,
    )


@pytest.fixture
def double(runtime: Runtime) -> Iterator[None]:
    """What two ways of summing differ by is rounding and nothing else."""
    segmenter = pristine(Nano(weights="random"), 64, runtime)
    segmenter.double().sam.sam_prompt_encoder.pe_layer.float()  # it makes coordinates in single itself
    yield
    segmenter.float()


def trained(config: TrialConfig, runtime: Runtime, epochs: int = 1, seed: int = 0) -> Session:
    session = start(config, Replicate(seed=seed), runtime)
    for _ in range(epochs):
        loop.epoch(session)
    return session


def packed(
    configs: Sequence[TrialConfig], runtime: Runtime, epochs: int = 1, seeds: Sequence[int] = (0, 1, 2)
) -> list[Session]:
    pairs = zip(configs, seeds, strict=False)
    sessions = [start(config, Replicate(seed=seed), runtime) for config, seed in pairs]
    for _ in range(epochs):
        packing.epoch(sessions)
    return sessions


def check_equal(found: Session, expected: Session, tolerance: float = 0.0) -> None:
    one, other = found.attachment.state(), expected.attachment.state()
    for name, tensor in other.items():
        torch.testing.assert_close(one[name], tensor, rtol=0, atol=tolerance)
    assert [entry["loss/total"] for entry in found.curve] == pytest.approx(
        [entry["loss/total"] for entry in expected.curve], rel=tolerance, abs=tolerance
    )


def differ(one: Session, other: Session) -> bool:
    mine, yours = one.attachment.state(), other.attachment.state()
    return any(not torch.equal(tensor, yours[name]) for name, tensor in mine.items())


def by_hand(config: TrialConfig, runtime: Runtime, share: float = 1.0) -> Session:
    """An epoch of SAM on ``share`` of each batch, written out."""
    session = start(config, Replicate(), runtime)
    segmenter, (group,) = session.segmenter, loop.enter(session).groups
    segmenter.train()

    def losses(images: Tensor, masks: Tensor) -> Tensor:
        logits = segmenter(images).logits
        frame = torch.nn.functional.interpolate(logits, size=masks.shape[-2:], mode="bilinear", align_corners=False)
        return torch.stack([w * loss(frame, masks) for loss, w in zip(config.loss.losses, weights, strict=True)]).sum(0)

    weights = config.loss.weights.values()
    for images, masks, _ in batches(session, 1):
        session.optimizer.zero_grad()
        before = losses(images, masks)
        before.mean().backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            kept = climb([group], 0.05)
            rise = losses(images, masks) - before
        chosen = rise.argsort(descending=True)[: math.ceil(share * len(images))]
        session.optimizer.zero_grad()
        losses(images[chosen], masks[chosen]).mean().backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            restore(kept)
        torch.nn.utils.clip_grad_norm_(list(group.parameters.values()), 1.0)
        session.optimizer.step()
        session.schedule.step()
    return session


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("sharpness", "share"), [(TwoPass(), 1.0), (Selecting(), 0.5), (Selecting(share=0.3), 0.3)])
def test_it_is_the_loop_written_by_hand(tiny: TrialConfig, runtime: Runtime, sharpness: Any, share: float) -> None:
    config = sharp(tiny, sharpness, batch_size=3, adapters=(LoRA(rank=2, alpha=4.0, dropout=0.0),))
    state = by_hand(config, runtime, share).attachment.state()
    found = trained(config, runtime).attachment.state()
    for name, tensor in state.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-12)
        assert tensor.abs().max() > 0, "nothing has left zero"


@pytest.mark.usefixtures("double")
@every_kind
def test_a_trial_is_the_same_alone_and_in_a_pack(tiny: TrialConfig, runtime: Runtime, kind: Any) -> None:
    """Trials of other ranks, draws and radii: where they choose images or steps, each chooses its own."""
    changes: list[dict[str, Any]] = [
        {},
        {"adapters": (LoRA(rank=3, alpha=6.0, dropout=0.3),), "optimizer": AdamW(lr=3e-3)},
        {"clip_norm": None},
    ]
    configs = [sharp(tiny, kind(), **{"batch_size": 3, **change}) for change in changes]
    sessions = packed(configs, runtime, epochs=2)
    for seed, (session, config) in enumerate(zip(sessions, configs, strict=True)):
        found, curve = session.attachment.state(), session.curve
        expected = trained(config, runtime, epochs=2, seed=seed)
        for name, tensor in expected.attachment.state().items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-9)
        assert [e["loss/total"] for e in curve] == pytest.approx([e["loss/total"] for e in expected.curve], rel=1e-9)
        assert (session.cost.forward_images, session.cost.backward_images) == (
            expected.cost.forward_images, expected.cost.backward_images
        )  # fmt: skip


@pytest.mark.usefixtures("double")
@new_kinds
def test_accumulated_batches_are_one_large_batch(tiny: TrialConfig, runtime: Runtime, kind: Any) -> None:
    config = sharp(tiny, kind(), adapters=(LoRA(rank=2, alpha=4.0, dropout=0.0),))
    whole = trained(replace(config, batch_size=4), runtime)
    check_equal(trained(replace(config, batch_size=2, accumulate=2), runtime), whole, 1e-9)
    check_equal(trained(replace(config, batch_size=1, accumulate=4), runtime), whole, 1e-9)


def test_a_radius_of_0_is_no_search_bit_by_bit(tiny: TrialConfig, runtime: Runtime) -> None:
    """All passes of a step draw the same bits of dropout, and the next step draws what it would have drawn."""
    check_equal(trained(sharp(tiny, TwoPass(rho=0.0)), runtime, 2), trained(tiny, runtime, 2))
    ones = packed([sharp(tiny, TwoPass(rho=0.0))] * 2, runtime, 2)
    others = packed([tiny] * 2, runtime, 2)
    for one, other in zip(ones, others, strict=True):
        found, expected = one.attachment.state(), other.attachment.state()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_all_images_selected_are_no_selection(tiny: TrialConfig, runtime: Runtime) -> None:
    config = replace(tiny, adapters=(LoRA(rank=2, alpha=4.0, dropout=0.0),))
    check_equal(trained(sharp(config, Selecting(share=1.0)), runtime), trained(sharp(config, TwoPass()), runtime), 1e-5)


@new_kinds
def test_it_differs_from_no_search(tiny: TrialConfig, runtime: Runtime, kind: Any) -> None:
    assert differ(trained(sharp(tiny, kind()), runtime), trained(tiny, runtime))


@new_kinds
def test_weights_come_back_before_the_optimizer_steps(tiny: TrialConfig, runtime: Runtime, kind: Any) -> None:
    session = start(sharp(tiny, kind()), Replicate(), runtime)
    parameters = list(session.attachment.parameters.values())
    before = [parameter.detach().clone() for parameter in parameters]

    def check(*_: object) -> None:
        assert all(torch.equal(one, other) for one, other in zip(parameters, before, strict=True))

    def renew(*_: object) -> None:
        before[:] = [parameter.detach().clone() for parameter in parameters]

    session.optimizer.register_step_pre_hook(check)
    session.optimizer.register_step_post_hook(renew)
    loop.epoch(session)


@every_kind
def test_it_asks_for_all_images_first_and_for_no_more_than_it_says(
    tiny: TrialConfig, runtime: Runtime, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int | None, bool]] = []
    true = loop._pass

    def counted(turns: Sequence[Any], *rest: Any) -> None:
        asked.append(turns[0].size)
        true(turns, *rest)

    monkeypatch.setattr(loop, "_pass", counted)
    session = trained(sharp(tiny, kind(), batch_size=8), runtime, 3)  # a step an epoch
    assert asked[0] == (None, True)
    most = kind().passes
    assert 3 <= len(asked) <= 3 * most.forward
    assert len([backward for _, backward in asked if backward]) <= 3 * most.backward
    assert session.cost.forward_images == sum(8 if size is None else size for size, _ in asked)
    assert session.cost.backward_images == sum(8 if size is None else size for size, back in asked if back)


@new_kinds
def test_a_trial_that_is_resumed_is_one_that_never_stopped(
    tiny: TrialConfig, runtime: Runtime, kind: Any, tmp_path: Path
) -> None:
    """Two steps an epoch: a rhythm of three goes on from one epoch to the next."""
    config = sharp(tiny, kind(), batch_size=1, accumulate=4)
    whole = trained(config, runtime, 3)
    stopped = trained(config, runtime, 1)
    checkpoint.save(stopped, tmp_path / "here.pt")
    resumed = start(config, Replicate(), runtime)
    checkpoint.resume(resumed, tmp_path / "here.pt")
    for _ in range(2):
        loop.epoch(resumed)
    check_equal(resumed, whole)
    assert resumed.memory.keys() == whole.memory.keys()
    assert bool(whole.memory) == (kind is Rhythmic)


@new_kinds
def test_a_trial_that_diverges_leaves_its_neighbours_alone(tiny: TrialConfig, runtime: Runtime, kind: Any) -> None:
    """A radius beyond all numbers breaks the second pass of one; the weights that it stepped from were sound."""
    healthy = packed([sharp(tiny, kind())] * 3, runtime)
    broken = [sharp(tiny, kind()), sharp(tiny, kind(rho=1e300)), sharp(tiny, kind())]
    sessions = [start(config, Replicate(seed=seed), runtime) for seed, config in enumerate(broken)]
    lanes = packing.advance(sessions)
    assert "is not finite in epoch 1" in str(lanes[1].fault)
    for place in (0, 2):
        assert lanes[place].fault is None
        pairs = zip(lanes[place].trainable, healthy[place].optimizer.param_groups[0]["params"], strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


@new_kinds
def test_statistics_of_a_unet_move_once_a_step(tiny: TrialConfig, runtime: Runtime, kind: Any) -> None:
    config = replace(tiny, backbone=UNet(), adapters=(Full(),), batch_size=2)
    session, plain = start(sharp(config, kind()), Replicate(), runtime), start(config, Replicate(), runtime)
    for one in (session, plain):
        one.segmenter.train()
        one.training = one.training[:2]  # a single step, whose first pass both see
        lockstep([one], SingleForward(one))
    moved = session.segmenter.statistics()
    assert moved
    assert all(torch.equal(tensor, plain.segmenter.statistics()[name]) for name, tensor in moved.items())
    assert all(int(count) == 1 for name, count in moved.items() if name.endswith("num_batches_tracked"))


@pytest.mark.parametrize("trials", [1, 2])
def test_tensors_that_a_step_leaves_out_stay_as_they_are(tiny: TrialConfig, runtime: Runtime, trials: int) -> None:
    """Alone, and in a pack, whose gradients are a part of something larger."""
    config = sharp(tiny, Sparse(), optimizer=AdamW(lr=1e-2, weight_decay=0.1))
    sessions = [start(config, Replicate(), runtime) for _ in range(trials)]
    session = sessions[0]
    parameters = list(session.attachment.parameters.values())
    before: list[Tensor] = []
    same: list[bool] = []

    def keep(*_: object) -> None:
        before[:] = [parameter.detach().clone() for parameter in parameters]

    def check(*_: object) -> None:
        for parameter, old in zip(parameters, before, strict=True):
            same.append(torch.equal(parameter, old))
            assert same[-1] or parameter.grad is not None

    session.optimizer.register_step_pre_hook(keep)
    session.optimizer.register_step_post_hook(check)
    if trials == 1:
        loop.epoch(session)
    else:
        packing.advance(sessions)
    assert 0 < sum(same) < len(same)


def test_trials_of_other_passes_are_packed_apart(tiny: TrialConfig) -> None:
    keys = {packing.signature(sharp(tiny, kind()), Replicate(), 6) for kind in (Off, *KINDS)}
    assert len(keys) == 1 + len(KINDS)
    one, other = (packing.signature(sharp(tiny, TwoPass(rho=rho)), Replicate(), 6) for rho in (0.1, 0.2))
    assert one == other


def test_images_of_which_some_have_a_prompt_are_not_selected(tiny: TrialConfig) -> None:
    mixed: dict[str, Any] = {"train_prompt": Points(), "prompt_dropout": 0.5, "accumulate": 3}
    with pytest.raises(ValidationError, match=r"prompt_dropout is 0\.5 and accumulate 3: set prompt_dropout to 0 or"):
        sharp(tiny, Selecting(), **mixed)
    sharp(tiny, TwoPass(), **mixed)
    sharp(tiny, Selecting(), **{**mixed, "accumulate": 1})
    sharp(tiny, Selecting(), **{**mixed, "prompt_dropout": 0.0})


@new_kinds
def test_a_search_around_nothing_is_refused(tiny: TrialConfig, kind: Any) -> None:
    with pytest.raises(ValidationError, match=rf"sharpness is '{kind().kind}'.* but nothing is trained: use Off\(\)"):
        sharp(tiny, kind(), adapters=())
    assert frozen(sharp(tiny, kind())).sharpness == Off()


def test_memory_is_planned_with_the_copies(tiny: TrialConfig) -> None:
    plain, more = (training_need(sharp(tiny, kind())).own for kind in (Off, Rhythmic))
    copies = 2 * 4 * count(tiny.parts, tiny.backbone) / 2**20
    assert more == pytest.approx(plain + copies)
