"""The law of packing: a trial is the same alone as in any company, and one that diverges leaves the others alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks.counting import Tally
from sam2lora.adapters import Attachment, Full, LastBlocks, LoRA, PackForm, Part, Site
from sam2lora.augments import Fundus, NoAugment
from sam2lora.auxiliary import Auxiliary, IoUError
from sam2lora.backbones import Backbone, Nano
from sam2lora.choice import digest
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.errors import Diverged
from sam2lora.losses import BCE, FocalTversky, SoftDice
from sam2lora.models.sam2 import Sam2Segmenter
from sam2lora.models.segmenter import Batch, Prediction, Stage
from sam2lora.optimizers import SGD, AdamW
from sam2lora.prompts import Points
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime
from sam2lora.schedules import Constant, Cosine
from sam2lora.thresholds import ChosenOnValidation, Fixed
from sam2lora.training import checkpoint, loop, objective, packing, scoring
from sam2lora.training.loop import Lane
from sam2lora.training.parts import validation_images
from sam2lora.training.session import Session, pristine, start
from sam2lora.weighted_loss import WeightedLoss, weighted

BASE = TrialConfig(
    protocol=Transfer(sources=(Synthetic(hospital="alder", images=8, size=64),)),
    backbone=Nano(weights="random"),
    adapters=(LoRA(rank=2, alpha=4.0, dropout=0.1),),
    augment=Fundus(),
    image_size=64,
    epochs=2,
)
"""A few training images in batches of two."""


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return Runtime(cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def double(runtime: Runtime) -> Iterator[None]:
    segmenter = pristine(BASE.backbone, 64, runtime)
    segmenter.double().sam.sam_prompt_encoder.pe_layer.float()  # it makes coordinates in single itself
    yield
    segmenter.float()


def variant(**changes: object) -> TrialConfig:
    return replace(BASE, **changes)


TRIALS = (
    (BASE, Replicate()),
    (variant(adapters=(LoRA(rank=5, alpha=2.0, dropout=0.3),), optimizer=AdamW(lr=3e-3)), Replicate()),
    (variant(loss=weighted({BCE(): 0.2, SoftDice(): 0.8}), schedule=Constant()), Replicate()),
    (variant(adapters=(LoRA(rank=3, alpha=6.0, dropout=0.0),), clip_norm=None), Replicate(seed=1)),
    (variant(augment=NoAugment(), optimizer=SGD(lr=0.05)), Replicate(seed=1)),
    (variant(adapters=(LoRA(rank=1, alpha=2.0, scale="rank_stabilised"),), clip_norm=0.05), Replicate(fold=2)),
    (variant(optimizer=AdamW(lr=1e-2, weight_decay=0.1), schedule=Cosine(), epochs=3), Replicate(seed=2, fold=1)),
    (
        variant(loss=weighted({FocalTversky(): 1.0}), adapters=(LoRA(rank=2, alpha=8.0, init="kaiming"),)),
        Replicate(seed=3),
    ),
    (variant(auxiliary=(IoUError(weight=0.2),)), Replicate()),
)
"""Nine trials that differ in whatever may differ within a pack."""

Ended = tuple[list[dict[str, float]], dict[str, torch.Tensor]]


def lonely(config: TrialConfig, replicate: Replicate, runtime: Runtime, epochs: int = 2) -> Ended:
    session = start(config, replicate, runtime)
    curve = [loop.epoch(session) for _ in range(epochs)]
    return curve, session.attachment.state()


def resident(which: int, runtime: Runtime) -> Session:
    return start(*TRIALS[which], runtime)


def ended(one: Session) -> Ended:
    return one.curve, one.attachment.state()


def check_equal(found: Ended, expected: Ended, tolerance: float) -> None:
    for entry, alone in zip(found[0], expected[0], strict=True):
        names = [name for name in alone if name.startswith(("loss/", "lr"))]
        assert {n: entry[n] for n in names} == pytest.approx({n: alone[n] for n in names}, rel=tolerance, abs=tolerance)
    assert found[1].keys() == expected[1].keys()
    for name, tensor in expected[1].items():
        torch.testing.assert_close(found[1][name], tensor, rtol=0, atol=tolerance)
        assert tensor.abs().max() > 0, "nothing has left zero"


@pytest.fixture(scope="module")
def alone(runtime: Runtime) -> Callable[[int], Ended]:
    """Each trial alone in float64, trained once however many tests ask for it."""
    known: dict[int, Ended] = {}

    def ask(which: int) -> Ended:
        if which not in known:
            known[which] = lonely(*TRIALS[which], runtime)
        return known[which]

    return ask


@pytest.mark.parametrize("company", [(0,), (0, 4), (0, 1, 2), (5, 3, 1, 0, 6, 7), tuple(range(9))], ids=len)
@pytest.mark.usefixtures("double")
def test_a_trial_is_the_same_alone_as_in_any_company(
    company: Sequence[int], alone: Callable[[int], Ended], runtime: Runtime
) -> None:
    sessions = [resident(which, runtime) for which in company]
    for _ in range(2):
        assert not any(isinstance(entry, Diverged) for entry in packing.epoch(sessions))
    for which, one in zip(company, sessions, strict=True):
        check_equal(ended(one), alone(which), 1e-9)


def test_in_single_precision_a_trial_is_the_same_up_to_rounding(runtime: Runtime) -> None:
    sessions = [resident(which, runtime) for which in range(6)]
    for _ in range(2):
        packing.epoch(sessions)
    packed = [ended(one) for one in sessions]
    for which, found in enumerate(packed):
        check_equal(found, lonely(*TRIALS[which], runtime), 1e-4)


@pytest.mark.usefixtures("double")
def test_joining_late_and_leaving_early_change_nothing(alone: Callable[[int], Ended], runtime: Runtime) -> None:
    leaver, stayer = resident(0, runtime), resident(1, runtime)
    packing.epoch([leaver, stayer])
    newcomer = resident(3, runtime)
    packing.epoch([stayer, newcomer])
    packing.epoch([newcomer])
    check_equal(ended(stayer), alone(1), 1e-9)
    check_equal(ended(newcomer), alone(3), 1e-9)
    one_epoch = lonely(*TRIALS[0], runtime, epochs=1)
    check_equal(ended(leaver), one_epoch, 1e-9)


@pytest.mark.usefixtures("double")
def test_a_trial_resumed_in_the_middle_joins_as_if_it_had_never_left(
    alone: Callable[[int], Ended], runtime: Runtime, tmp_path: Path
) -> None:
    first = resident(2, runtime)
    packing.epoch([first, resident(6, runtime)])
    checkpoint.save(first, tmp_path / "checkpoint.pt")
    again = start(*TRIALS[2], runtime)
    checkpoint.resume(again, tmp_path / "checkpoint.pt")
    for parameter in again.segmenter.parameters():
        assert parameter.dtype == torch.float64
    packing.epoch([again, resident(0, runtime)])
    check_equal(ended(again), alone(2), 1e-9)


def poisoned(which: int, runtime: Runtime) -> Session:
    one = resident(which, runtime)
    with torch.no_grad():
        for parameter in one.attachment.parameters.values():
            parameter.fill_(float("nan"))
    return one


def test_a_trial_that_diverges_leaves_the_others_bit_by_bit_as_they_are(runtime: Runtime) -> None:
    """Beside the same trial in good health: the shapes are equal, so rounding is, too."""
    beside_nan = [resident(0, runtime), poisoned(1, runtime), resident(3, runtime)]
    entries = packing.epoch(beside_nan)
    assert isinstance(entries[1], Diverged)
    assert entries[1].epoch == 1
    assert beside_nan[1].curve == []
    healthy = [resident(0, runtime), resident(1, runtime), resident(3, runtime)]
    packing.epoch(healthy)
    for place in (0, 2):
        found, expected = ended(beside_nan[place]), ended(healthy[place])
        assert all(torch.equal(found[1][name], tensor) for name, tensor in expected[1].items())
        timeless = [{n: v for n, v in curve[0].items() if n != "seconds"} for curve in (found[0], expected[0])]
        assert timeless[0] == timeless[1]


def test_a_loss_that_overflows_midway_stops_its_own_trial_alone(runtime: Runtime) -> None:
    wild = variant(optimizer=SGD(lr=1e30), clip_norm=None)
    sessions = [start(wild, Replicate(), runtime), resident(0, runtime)]
    fault, entry = packing.epoch(sessions)
    assert isinstance(fault, Diverged)
    assert fault.step > 1
    assert isinstance(entry, dict)


ONE_STEP = variant(protocol=Transfer(sources=(Synthetic(hospital="alder", images=12, size=64),)), batch_size=64)
"""An epoch of one step, whose loss is that of the weights at their start."""


@pytest.mark.parametrize(
    ("optimizer", "what"),
    [
        (AdamW(lr=1e39), "a weight is not finite"),
        (SGD(lr=1e30), "a validation logit is not a number"),
        (AdamW(lr=1e20), "a validation logit is not a number"),
    ],
    ids=["weights", "logits by SGD", "logits by AdamW"],
)
def test_what_an_epochs_last_step_did_stops_its_own_trial_alone(
    optimizer: SGD | AdamW, what: str, runtime: Runtime
) -> None:
    wild = replace(ONE_STEP, optimizer=optimizer, clip_norm=None)
    sessions = [start(config, Replicate(), runtime) for config in (ONE_STEP, wild, ONE_STEP)]
    entries = packing.epoch(sessions)
    assert isinstance(fault := entries[1], Diverged)
    assert (fault.epoch, fault.step) == (1, 1)
    assert what in str(fault)
    assert sessions[1].curve == []
    healthy = [start(ONE_STEP, Replicate(), runtime) for _ in range(3)]
    expected = packing.epoch(healthy)
    for place in (0, 2):
        found = entries[place]
        assert isinstance(found, dict)
        assert {**found, "seconds": 0} == {**expected[place], "seconds": 0}
        ours, theirs = ended(sessions[place])[1], ended(healthy[place])[1]
        assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())
    with pytest.raises(Diverged, match=what):
        loop.epoch(start(wild, Replicate(), runtime))


@pytest.mark.parametrize(
    ("adapter", "first"),
    [
        (LoRA(encoder="none", rank=2, alpha=4.0), None),
        (LoRA(blocks=LastBlocks(count=2), decoder="none", rank=2, alpha=4.0), 2),
        (LoRA(rank=2, alpha=4.0), 0),
        (LoRA(encoder="qv", decoder="all", dropout_site="input", rank=2, alpha=4.0), 0),
    ],
    ids=["decoder", "last blocks", "everywhere", "q and v, dropout before"],
)
@pytest.mark.usefixtures("double")
def test_wherever_the_adapter_lies(adapter: LoRA, first: int | None, runtime: Runtime) -> None:
    one, other = (
        variant(adapters=(adapter,)),
        variant(adapters=(replace(adapter, rank=4, dropout=0.4),), augment=NoAugment()),
    )
    sessions = [start(config, Replicate(), runtime) for config in (one, other)]
    packing.epoch(sessions)
    for found, config in zip(sessions, (one, other), strict=True):
        check_equal(ended(found), lonely(config, Replicate(), runtime, epochs=1), 1e-9)


@dataclass(frozen=True)
class Convolutions:
    """An adapter of a kind that the project has none of: a bottleneck with BatchNorm beside some modules."""

    names: tuple[str, ...]
    width: int = 3
    kind: str = "convolutions"

    def sites(self, backbone: Backbone) -> frozenset[Site]:
        return frozenset(Site(name, "parallel") for name in self.names)

    def place(self, on: Attachment) -> None:
        for name in self.names:
            bottleneck = Bottleneck(*CHANNELS[name], self.width, on.generator(name))
            on.hook(name, bottleneck.to(next(on.body.parameters()).dtype), "parallel")

    def pack_form(self, backbone: Backbone) -> PackForm:
        return PackForm(digest(self.names))


class Bottleneck(nn.Module):
    """From maps (N, inputs, h, w) to (N, outputs, h, w); the channels of equal ones, as in the trunk, come last."""

    def __init__(self, inputs: int, outputs: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.last = inputs == outputs
        stride = 2 if inputs == 3 else 1  # images become patches
        self.down, self.up = nn.Conv2d(inputs, width, 3, stride, 1), nn.Conv2d(width, outputs, 1)
        self.norm = nn.BatchNorm2d(width)
        with torch.no_grad():
            for parameter in (*self.down.parameters(), *self.up.parameters()):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = x.permute(0, 3, 1, 2) if self.last else x
        y = self.up(torch.relu(self.norm(self.down(maps))))
        return y.permute(0, 2, 3, 1) if self.last else y


MLP, NECK = "image_encoder.trunk.blocks.3.mlp", "image_encoder.neck.convs.0"
PATCHES = "image_encoder.trunk.patch_embed.proj"
CHANNELS = {MLP: (64, 64), NECK: (128, 64), PATCHES: (3, 16)}
DECODER = LoRA(encoder="none", rank=2, alpha=4.0, dropout=0.3)
LAST = LoRA(blocks=LastBlocks(count=1), decoder="none", rank=3, alpha=6.0, dropout=0.2)
COMPANIES: dict[str, tuple[tuple[Part, ...], ...]] = {
    "convolutions": ((Convolutions((MLP,)),), (Convolutions((MLP,), width=5),), (Convolutions((MLP,)),)),
    "LoRA and convolutions": ((DECODER, Convolutions((NECK,))), (replace(DECODER, rank=5), Convolutions((NECK,), 2))),
    "in front of the first block": ((Convolutions((PATCHES,)),), (Convolutions((PATCHES,), 4),)),
    "two of LoRA, of which one or both drop": (
        (LAST, DECODER),
        (replace(LAST, dropout=0.0), DECODER),
        (replace(LAST, rank=1), replace(DECODER, dropout=0.0)),
        (LAST, replace(DECODER, dropout=0.1)),
    ),
}


@pytest.mark.parametrize("company", COMPANIES.values(), ids=COMPANIES)
@pytest.mark.usefixtures("double")
def test_the_law_holds_for_any_adapters(
    company: Sequence[tuple[Part, ...]], runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [variant(adapters=(LoRA(rank=place),)) for place in range(1, len(company) + 1)]
    parts = {
        config.adapters: {f"adapters.{place}": part for place, part in enumerate(parts)}
        for config, parts in zip(configs, company, strict=True)
    }
    monkeypatch.setattr(TrialConfig, "named_parts", property(lambda config: parts[config.adapters]))
    sessions = [start(config, Replicate(), runtime) for config in configs]
    for _ in range(2):
        assert not any(isinstance(entry, Diverged) for entry in packing.epoch(sessions))
    for found, config in zip(sessions, configs, strict=True):
        alone = start(config, Replicate(), runtime)
        scores = [loop.epoch(alone)["score"] for _ in range(2)]
        check_equal(ended(found), ended(alone), 1e-9)
        assert [entry["score"] for entry in found.curve] == pytest.approx(scores, abs=1e-9)


@pytest.mark.usefixtures("double")
def test_trials_with_the_same_prompts_share_a_pack(runtime: Runtime) -> None:
    configs = [variant(train_prompt=Points(positive=2), adapters=(LoRA(rank=rank, alpha=4.0),)) for rank in (1, 3)]
    sessions = [start(config, Replicate(), runtime) for config in configs]
    packing.epoch(sessions)
    for found, config in zip(sessions, configs, strict=True):
        check_equal(ended(found), lonely(config, Replicate(), runtime, epochs=1), 1e-9)


def test_trials_with_prompts_at_other_epochs_are_packed_apart(runtime: Runtime) -> None:
    prompted = variant(train_prompt=Points(positive=2))
    ahead, behind = (start(prompted, Replicate(), runtime) for _ in range(2))
    packing.epoch([ahead])
    assert packing.pace(ahead) != packing.pace(behind)
    with pytest.raises(ValueError, match="one signature and pace"):
        packing.epoch([ahead, behind])
    packing.epoch([behind])
    assert not any(isinstance(entry, Diverged) for entry in packing.epoch([ahead, behind]))


@pytest.mark.parametrize(
    "other",
    [
        variant(image_size=128),
        variant(batch_size=3),
        variant(accumulate=2),
        variant(precision="bfloat16"),
        variant(adapters=(LoRA(encoder="mlp"),)),
        variant(adapters=(LoRA(dropout_site="input"),)),
        variant(backbone=Nano()),
        variant(train_prompt=Points(positive=1)),
    ],
)
def test_trials_of_different_shape_are_packed_apart(other: TrialConfig) -> None:
    assert packing.signature(other, Replicate(), 6) != packing.signature(BASE, Replicate(), 6)
    assert packing.signature(BASE, Replicate(), 6) != packing.signature(BASE, Replicate(), 7)


@pytest.mark.parametrize(("company", "images"), [((0, 1, 2), 2), ((0, 4), 4)], ids=["equal draws", "other draws"])
def test_what_no_adapter_has_touched_is_computed_once_for_equal_draws(
    company: Sequence[int], images: int, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    embed = Sam2Segmenter.embed

    def counted(self: Sam2Segmenter, given: torch.Tensor) -> Stage:
        if self.training:
            seen.append(len(given))
        return embed(self, given)

    monkeypatch.setattr(Sam2Segmenter, "embed", counted)
    sessions = [resident(which, runtime) for which in company]
    packing.epoch(sessions)
    assert seen == [images] * (len(sessions[0].training) // 2)


UNSEEN = Transfer(
    sources=(Synthetic(hospital="alder", images=8, size=64),), targets=(Synthetic(hospital="birch", images=6, size=96),)
)
"""With images to judge on."""

JUDGED = (
    (variant(protocol=UNSEEN, threshold=ChosenOnValidation()), Replicate()),
    (variant(protocol=UNSEEN, adapters=(LoRA(rank=4, alpha=8.0),)), Replicate(seed=1)),
    (variant(protocol=UNSEEN, threshold=Fixed(probability=0.3)), Replicate(fold=1)),
    (variant(protocol=UNSEEN, adapters=(LoRA(rank=3, alpha=6.0),)), Replicate()),
)
"""Thresholds of their own; the second and the last look at the same images as the first, the third validates others."""


@pytest.mark.usefixtures("double")
def test_a_pack_is_validated_and_judged_as_each_of_its_trials_alone(runtime: Runtime) -> None:
    sessions = [start(config, replicate, runtime) for config, replicate in JUDGED]
    entries = [packing.epoch(sessions) for _ in range(2)][-1]
    tables = packing.final_scores(sessions)
    for (config, replicate), one, entry, found in zip(JUDGED, sessions, entries, tables, strict=True):
        session = start(config, replicate, runtime)
        expected = [loop.epoch(session) for _ in range(2)][-1]
        assert isinstance(entry, dict)
        assert entry["score"] == pytest.approx(expected["score"], abs=1e-9)
        assert entry["alder/dice"] == pytest.approx(expected["alder/dice"], abs=1e-9)
        assert set(found["dataset"]) == {"alder", "birch"}
        pd.testing.assert_frame_equal(
            found, scoring.final_scores(session), rtol=0, atol=1e-6
        )  # half precision sorts the logits
        assert one.cost.evaluate_seconds > 0


def test_in_half_precision_a_score_is_the_same_to_a_few_thousandths(runtime: Runtime) -> None:
    half = variant(protocol=UNSEEN, backbone=Nano(), precision="bfloat16")
    configs = [replace(half, adapters=(LoRA(rank=rank, alpha=4.0),)) for rank in (2, 4, 3)]
    sessions = [start(config, Replicate(), runtime) for config in configs]
    entries = [packing.epoch(sessions) for _ in range(2)][-1]
    for config, entry, found in zip(configs, entries, packing.final_scores(sessions), strict=True):
        session = start(config, Replicate(), runtime)
        expected = [loop.epoch(session) for _ in range(2)][-1]
        rows = scoring.final_scores(session)
        assert isinstance(entry, dict)
        assert entry["score"] > 0.3, "it has learnt"
        assert entry["score"] == pytest.approx(expected["score"], abs=4e-3)
        # Processors round products of half precision in their ways: 1e-4 to 2.1e-3 was seen.
        assert found["dice"].mean() == pytest.approx(rows["dice"].mean(), abs=4e-3)
        assert (found["dice"] - rows["dice"]).abs().max() < 2e-2


def test_trials_that_prompt_by_other_draws_look_at_other_images(runtime: Runtime) -> None:
    def look(replicate: Replicate, **changes: object) -> str:
        return scoring.evaluation_key(start(variant(protocol=UNSEEN, **changes), replicate, runtime))

    prompted = {"test_prompt": Points(positive=1)}
    assert look(Replicate()) == look(Replicate(seed=1))
    assert look(Replicate()) != look(Replicate(fold=1))
    assert look(Replicate(), **prompted) != look(Replicate())
    assert look(Replicate(), **prompted) != look(Replicate(seed=1), **prompted)
    assert look(Replicate(), adapters=(LoRA(rank=7),)) == look(Replicate())


@pytest.mark.parametrize("chosen", [(), (0, 2)], ids=["fixed thresholds", "two that are chosen"])
def test_a_pack_of_decoders_encodes_every_image_once_to_judge_it(
    chosen: Sequence[int], runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = [variant(protocol=UNSEEN, adapters=(LoRA(encoder="none", rank=rank, alpha=2.0),)) for rank in (1, 2, 3)]
    for place in chosen:
        configs[place] = replace(configs[place], threshold=ChosenOnValidation())
    forgetful = replace(runtime, features_mib=0)
    sessions = [start(config, Replicate(), forgetful) for config in configs]
    seen: list[int] = []
    embed = Sam2Segmenter.embed

    def counted(self: Sam2Segmenter, given: torch.Tensor) -> Stage:
        seen.append(len(given))
        return embed(self, given)

    monkeypatch.setattr(Sam2Segmenter, "embed", counted)
    tables = packing.final_scores(sessions)
    (source,) = sessions[0].sources
    validating = len(validation_images(source, 0)) if chosen else 0
    assert sum(seen) == validating + len(tables[0])
    assert [len(rows) for rows in tables] == [len(tables[0])] * 3


def ranked(*ranks: int, **changes: object) -> list[TrialConfig]:
    return [variant(adapters=(LoRA(rank=rank, alpha=4.0, dropout=0.1),), **changes) for rank in ranks]


def mixed(place: int) -> WeightedLoss:
    """The same losses with other weights for every place."""
    first = 0.1 + 0.05 * place
    return weighted(zip(BASE.loss.losses, (first, 0.9 - first, 0.1), strict=True))


@pytest.mark.parametrize("seeds", [1, 8], ids=["equal draws", "other draws"])
def test_what_is_launched_does_not_grow_with_the_trials(
    seeds: int, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for one draw of dropout in each layer and replicate, and for what clips and steps, which is each trial's."""
    counted: list[int] = []

    def counting(sessions: Sequence[Session], forward: packing.PackedForward) -> list[Lane]:
        lanes = [loop.enter(session) for session in sessions]
        places = [place % seeds for place in range(len(sessions))]
        batches = [Batch(torch.rand(2, 3, 64, 64), torch.ones(2, 1, 64, 64), None)] * (max(places) + 1)
        with Tally("cpu") as tally:
            loop.step(lanes, forward, [(batch,) for batch in batches], places)
        counted.append(sum(one.launches for one in tally.operations if one.name != "random_"))
        return lanes

    monkeypatch.setattr(loop, "_update", lambda lane: None)
    monkeypatch.setattr(packing, "lockstep", counting)
    for count in (2, 4, 8):
        replicates = [Replicate(seed=place % seeds) for place in range(count)]
        configs = [replace(config, loss=mixed(place)) for place, config in enumerate(ranked(*range(1, count + 1)))]
        packing.advance([start(config, each, runtime) for config, each in zip(configs, replicates, strict=True)])
    assert counted[0] > 100
    assert counted == [counted[0]] * 3


def test_the_same_losses_are_computed_in_one_go_whatever_their_weights(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"loss": weighted(zip(BASE.loss.losses, (0.2, 0.7, 0.1), strict=True))},
        {"loss": weighted({BCE(): 1.0})},
        {"auxiliary": (IoUError(weight=0.2),)},
        {"auxiliary": (IoUError(weight=0.5),), "clip_norm": None},
    ]
    sessions = [start(variant(**change), Replicate(), runtime) for change in changes]
    images: list[int] = []
    true = objective.objective

    def counted(terms: Any, weights: Any, prediction: Prediction, *rest: Any) -> Any:
        images.append(len(prediction.logits))
        return true(terms, weights, prediction, *rest)

    monkeypatch.setattr(loop, "objective", counted)
    lanes = packing.advance(sessions)
    assert images == [4, 2, 4] * 2, "in two steps with two images for each trial"
    assert [len(lane.sums) for lane in lanes] == [4, 4, 2, 5, 5]


@pytest.mark.usefixtures("double")
def test_gradients_that_several_batches_bring_are_those_of_each_trial_alone(runtime: Runtime) -> None:
    configs = ranked(3, 1, 2, accumulate=3, batch_size=1, clip_norm=0.05)
    sessions = [start(config, Replicate(seed=seed), runtime) for seed, config in enumerate(configs)]
    assert len(sessions[0].training) % 3, "the last step has fewer batches"
    for _ in range(2):
        packing.epoch(sessions)
    for seed, (found, config) in enumerate(zip(sessions, configs, strict=True)):
        check_equal(ended(found), lonely(config, Replicate(seed=seed), runtime), 1e-9)


@pytest.mark.usefixtures("double")
def test_a_trial_goes_back_in_the_midst_of_changing_company(alone: Callable[[int], Ended], runtime: Runtime) -> None:
    one = resident(1, runtime)
    packing.epoch([resident(0, runtime), one, resident(3, runtime)])
    before = deepcopy(checkpoint.state(one))
    packing.epoch([one, resident(5, runtime)])
    checkpoint.restore(one, before)
    packing.epoch([resident(2, runtime), one])
    check_equal(ended(one), alone(1), 1e-9)


def test_a_checkpoint_out_of_a_pack_is_no_larger_than_that_of_a_lone_trial(runtime: Runtime, tmp_path: Path) -> None:
    sessions = [start(config, Replicate(), runtime) for config in ranked(8, 2)]
    packing.advance(sessions)
    checkpoint.save(sessions[1], tmp_path / "packed.pt")
    session = start(sessions[1].config, Replicate(), runtime)
    loop.lockstep([session], loop.SingleForward(session))
    checkpoint.save(session, tmp_path / "alone.pt")
    assert (tmp_path / "packed.pt").stat().st_size == (tmp_path / "alone.pt").stat().st_size


def test_a_pack_that_fails_midway_leaves_no_gradients_and_every_trial_fit_to_go_back(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = [start(config, Replicate(), runtime) for config in ranked(1, 4)]
    before = deepcopy(checkpoint.state(sessions[0]))
    calls, true = [], packing.PackedForward.__call__

    def failing(self: packing.PackedForward, *given: Any) -> Sequence[loop.Output]:
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return true(self, *given)

    monkeypatch.setattr(packing.PackedForward, "__call__", failing)
    with pytest.raises(torch.OutOfMemoryError):
        packing.epoch(sessions)
    monkeypatch.setattr(packing.PackedForward, "__call__", true)
    for one in sessions:
        assert all(parameter.grad is None for parameter in one.optimizer.param_groups[0]["params"])
    checkpoint.restore(sessions[0], before)
    loop.epoch(sessions[0])
    expected = lonely(sessions[0].config, Replicate(), runtime, epochs=1)
    check_equal(ended(sessions[0]), expected, 0.0)


@pytest.mark.parametrize("auxiliary", [(), (IoUError(weight=0.2),)])
def test_every_factor_has_a_gradient_when_its_trial_is_alone(
    auxiliary: tuple[Auxiliary, ...], runtime: Runtime
) -> None:
    """A pack has zeros where a lone trial has no gradient, and an optimizer tells them apart."""
    widest = variant(adapters=(LoRA(encoder="all", decoder="all", rank=1, alpha=2.0),), auxiliary=auxiliary)
    session = start(widest, Replicate(), runtime)
    (lane,) = loop.lockstep([session], loop.SingleForward(session))
    assert all(parameter.grad is not None for parameter in lane.trainable)


def test_a_model_that_is_trained_whole_is_not_packed(runtime: Runtime) -> None:
    whole = variant(adapters=(Full(),))
    assert packing.signature(whole, Replicate(), 6) is None
    with pytest.raises(ValueError, match="train it alone"):
        packing.advance([start(whole, Replicate(), runtime)])


def test_trials_of_two_signatures_in_one_pack_are_refused(runtime: Runtime) -> None:
    other = start(variant(batch_size=3), Replicate(), runtime)
    with pytest.raises(ValueError, match="one signature"):
        packing.epoch([resident(0, runtime), other])
