"""The laws of LoRA."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any, Literal, get_args

import pytest
import torch
from pydantic import ValidationError

from sam2lora.adapters import (
    Adapter,
    AllBlocks,
    Attachment,
    Blocks,
    Full,
    GlobalBlocks,
    LastBlocks,
    LoRA,
    LoRALinear,
    Stages,
    count,
    merge,
    share,
    unmerge,
)
from sam2lora.adapters.dropout import drop
from sam2lora.adapters.low_rank import lora_layers
from sam2lora.backbones import Backbone, Nano, Sam2, Size, architecture
from sam2lora.choice import from_json, kinds, to_json
from sam2lora.errors import CheckpointError
from sam2lora.models.build import parameters
from sam2lora.models.segmenter import Segmenter

Build = Callable[[], Segmenter]
Attach = Callable[[Segmenter, LoRA], Segmenter]

SMALL = LoRA(rank=4, alpha=8.0, dropout=0.0)
ENCODERS: tuple[Literal["qkv", "qv", "proj", "mlp", "all", "none"], ...] = ("qkv", "qv", "proj", "mlp", "all", "none")
DECODERS: tuple[Literal["attention", "qv", "mlp", "all", "none"], ...] = ("attention", "qv", "mlp", "all", "none")
SITES = [
    replace(SMALL, encoder=encoder, decoder=decoder)
    for encoder, decoder in product(ENCODERS, DECODERS)
    if (encoder, decoder) != ("none", "none")
]
BLOCKS: list[Any] = [AllBlocks(), GlobalBlocks(), Stages(stages=(1, 4)), LastBlocks(count=2)]


def site(value: object) -> str | None:
    return f"{value.encoder}-{value.decoder}" if isinstance(value, LoRA) else None


def attachment(segmenter: Segmenter) -> Attachment:
    """What is on ``segmenter``."""
    on = segmenter.body.attachment
    assert isinstance(on, Attachment)
    return on


def state(segmenter: Segmenter) -> dict[str, torch.Tensor]:
    return attachment(segmenter).state()


def trainable(segmenter: Segmenter) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in segmenter.named_parameters() if parameter.requires_grad}


# The table of the paper's backbones, in thousands: trainable parameters by rank for T, S, B+ and L.
SIZES: tuple[Size, ...] = get_args(Size)
COUNTS = {
    32: (957_440, 1_154_048, 1_728_000, 3_846_656),
    64: (1_914_880, 2_308_096, 3_456_000, 7_693_312),
    128: (3_829_760, 4_616_192, 6_912_000, 15_386_624),
    256: (7_659_520, 9_232_384, 13_824_000, 30_773_248),
    512: (15_319_040, 18_464_768, 27_648_000, 61_546_496),
    1024: (30_638_080, 36_929_536, 55_296_000, 123_092_992),
}


@pytest.mark.parametrize(("rank", "counts"), COUNTS.items())
def test_count_of_the_published_backbones(rank: int, counts: tuple[int, ...]) -> None:
    assert tuple(count((LoRA(rank=rank),), Sam2(size=size)) for size in SIZES) == counts


@pytest.mark.parametrize(
    ("adapter", "per_rank"),
    [
        (LoRA(rank=1, decoder="none"), (18_144, 24_288, 42_224, 108_432)),
        (LoRA(rank=1, encoder="none"), (11_776,) * 4),
        (LoRA(rank=1, encoder="none", decoder="qv"), (11_776 // 2,) * 4),
        (LoRA(rank=1, encoder="none", decoder="mlp"), (4 * (256 + 2048),) * 4),
        (LoRA(rank=1, encoder="all", decoder="none"), (76_608, 101_184, 173_600, 439_776)),
        (LoRA(rank=1, encoder="mlp", decoder="none"), (47_040, 62_400, 107_520, 273_600)),
    ],
    ids=site,
)
def test_count_of_other_targets_at_rank_one(adapter: LoRA, per_rank: tuple[int, ...]) -> None:
    assert tuple(count((adapter,), Sam2(size=size)) for size in SIZES) == per_rank


def test_query_and_value_updates_hold_two_thirds_of_the_outputs() -> None:
    both, whole = LoRA(rank=1, encoder="qv", decoder="none"), LoRA(rank=1, decoder="none")
    backbone = Sam2(size="tiny")
    inputs = sum(linear.inputs for linear in whole.targets(backbone))
    outputs = sum(linear.outputs for linear in whole.targets(backbone))
    assert count((both,), backbone) == 2 * inputs + 2 * outputs // 3


def test_share_of_the_large_backbone() -> None:
    assert share((LoRA(rank=64),), Sam2(size="large")) == pytest.approx(0.0343, abs=5e-5)
    assert share((LoRA(rank=93),), Sam2(size="large")) < 0.05 < share((LoRA(rank=94),), Sam2(size="large"))


@pytest.mark.parametrize("adapter", SITES, ids=site)
def test_attached_parameters_are_those_counted(fresh: Build, attach: Attach, adapter: LoRA) -> None:
    segmenter = attach(fresh(), adapter)
    assert sum(parameter.numel() for parameter in trainable(segmenter).values()) == count(
        (adapter,), segmenter.backbone
    )
    assert all(name.endswith((".A", ".B")) for name in trainable(segmenter))


@pytest.mark.parametrize("blocks", BLOCKS, ids=lambda blocks: blocks.kind)
def test_blocks_select_the_attached_layers(fresh: Build, attach: Attach, blocks: Blocks) -> None:
    adapter = replace(SMALL, blocks=blocks, decoder="none")
    segmenter = attach(fresh(), adapter)
    found = {int(name.split("blocks.")[1].split(".")[0]) for name in lora_layers(segmenter)}
    assert found == blocks.of(architecture(segmenter.backbone))
    assert sum(parameter.numel() for parameter in trainable(segmenter).values()) == count(
        (adapter,), segmenter.backbone
    )


@pytest.mark.parametrize(
    ("blocks", "chosen"),
    [
        (AllBlocks(), set(range(12))),
        (GlobalBlocks(), {5, 7, 9}),
        (Stages(stages=(1, 4)), {0, 10, 11}),
        (Stages(stages=(3,)), {3, 4, 5, 6, 7, 8, 9}),
        (LastBlocks(count=3), {9, 10, 11}),
        (LastBlocks(count=12), set(range(12))),
    ],
)
def test_blocks_of_the_tiny_backbone(blocks: Blocks, chosen: set[int]) -> None:
    assert blocks.of(architecture(Sam2(size="tiny"))) == chosen


def test_more_last_blocks_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="at most the 12 blocks of the trunk, but got 13"):
        LoRA(blocks=LastBlocks(count=13)).targets(Sam2(size="tiny"))


@pytest.mark.parametrize("stages", [(), (0,), (5,), (2, 1), (3, 3)])
def test_stages_have_one_spelling(stages: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError):
        Stages(stages=stages)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("adapter", SITES, ids=site)
def test_a_new_adapter_changes_nothing(
    fresh: Build, attach: Attach, images: torch.Tensor, adapter: LoRA, training: bool
) -> None:
    segmenter = fresh()
    before = segmenter(images).logits
    attach(segmenter, replace(adapter, dropout=0.3)).train(training)
    assert (segmenter(images).logits - before).abs().max() == 0


@pytest.mark.parametrize("adapter", SITES, ids=site)
def test_alpha_zero_is_the_frozen_model_whatever_was_trained(
    fresh: Build, trained: Attach, images: torch.Tensor, adapter: LoRA
) -> None:
    segmenter = fresh()
    before = segmenter(images).logits
    assert (trained(segmenter, replace(adapter, alpha=0.0))(images).logits - before).abs().max() == 0
    assert (trained(fresh(), adapter)(images).logits - before).abs().max() > 1e-4


@pytest.mark.parametrize("adapter", SITES, ids=site)
def test_only_the_adapter_gets_gradients_and_at_first_only_b(
    fresh: Build, attach: Attach, images: torch.Tensor, adapter: LoRA
) -> None:
    segmenter = attach(fresh(), adapter).train()
    own = trainable(segmenter)
    frozen = {name: parameter.clone() for name, parameter in segmenter.named_parameters() if name not in own}
    optimizer = torch.optim.SGD(own.values(), lr=1.0)

    segmenter(images).logits.square().mean().backward()

    assert {name for name, parameter in segmenter.named_parameters() if parameter.grad is not None} == own.keys()
    assert all(_gradient(parameter) == 0 for name, parameter in own.items() if name.endswith(".A"))
    assert all(_gradient(parameter) > 0 for name, parameter in own.items() if name.endswith(".B"))

    optimizer.step()
    optimizer.zero_grad()
    segmenter(images).logits.square().mean().backward()

    assert all(_gradient(parameter) > 0 for parameter in own.values())
    assert all(
        torch.equal(parameter, frozen[name]) for name, parameter in segmenter.named_parameters() if name in frozen
    )


def _gradient(parameter: torch.nn.Parameter) -> float:
    assert parameter.grad is not None
    return float(parameter.grad.abs().max())


def test_nothing_is_recorded_in_front_of_the_first_adapted_layer(
    fresh: Build, attach: Attach, images: torch.Tensor
) -> None:
    decoder_only = attach(fresh(), replace(SMALL, encoder="none"))
    late = attach(fresh(), replace(SMALL, blocks=LastBlocks(count=1)))

    features = decoder_only.encode(images)
    assert not any(feature.requires_grad for feature in (features.image, *features.finer))
    assert decoder_only(images).logits.requires_grad
    assert [output.requires_grad for output in late.sam.image_encoder.trunk(images)] == [False, False, False, True]


@pytest.mark.parametrize(
    ("adapter", "factor"),
    [
        (LoRA(rank=4, alpha=8.0), 2.0),
        (LoRA(rank=8, alpha=16.0), 2.0),
        (LoRA(rank=16, alpha=8.0), 0.5),
        (LoRA(rank=16, alpha=8.0, scale="rank_stabilised"), 2.0),
    ],
)
def test_factor(adapter: LoRA, factor: float) -> None:
    assert adapter.factor == factor


def test_doubling_alpha_doubles_the_update(fresh: Build, trained: Attach) -> None:
    x = torch.randn(5, 16, generator=torch.Generator().manual_seed(2))
    name = "sam.image_encoder.trunk.blocks.0.attn.qkv"
    base = fresh().get_submodule(name)(x)
    once, twice = (trained(fresh(), replace(SMALL, alpha=alpha)).get_submodule(name)(x) - base for alpha in (8.0, 16.0))
    torch.testing.assert_close(twice, 2 * once, rtol=1e-4, atol=1e-5)
    assert once.abs().max() > 0.01


def test_the_update_is_scale_times_b_times_a(fresh: Build, trained: Attach) -> None:
    """At a block that doubles the width, where a layout by inputs instead of outputs would show."""
    name = "image_encoder.trunk.blocks.1.attn.qkv"
    segmenter = trained(fresh(), SMALL)
    tensors = state(segmenter)
    a, b = tensors[f"{name}.lora.whole.A"], tensors[f"{name}.lora.whole.B"]
    x = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(2))

    update = segmenter.sam.get_submodule(name)(x) - fresh().sam.get_submodule(name)(x)

    assert (a.shape, b.shape) == ((4, 16), (96, 4))
    torch.testing.assert_close(update, 2.0 * x @ a.T @ b.T, rtol=1e-4, atol=1e-5)


def test_query_and_value_updates_leave_the_keys_alone(fresh: Build, trained: Attach) -> None:
    """Hiera's qkv maps dim to 3 * dim_out, and dim is not dim_out where a stage begins."""
    name = "image_encoder.trunk.blocks.1.attn.qkv"
    segmenter = trained(fresh(), replace(SMALL, encoder="qv"))
    x = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(2))

    query, key, value = (segmenter.sam.get_submodule(name)(x) - fresh().sam.get_submodule(name)(x)).split(32, dim=-1)

    assert query.abs().max() > 0.01
    assert key.abs().max() == 0
    assert value.abs().max() > 0.01


@pytest.mark.parametrize("adapter", SITES, ids=site)
def test_merge_keeps_the_output_and_unmerge_the_weights(
    fresh: Build, trained: Attach, images: torch.Tensor, adapter: LoRA
) -> None:
    segmenter = trained(fresh(), adapter)
    weights = {name: tensor.clone() for name, tensor in segmenter.state_dict().items()}
    with torch.no_grad():
        before = segmenter(images).logits
        merge(segmenter)
        assert (segmenter(images).logits - before).abs().max() <= 1e-5
        unmerge(segmenter)
        assert torch.equal(segmenter(images).logits, before)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in segmenter.state_dict().items())


def test_merge_goes_into_the_weight_itself(fresh: Build, trained: Attach) -> None:
    name = "sam.image_encoder.trunk.blocks.0.attn.qkv"
    segmenter = trained(fresh(), SMALL)
    merge(segmenter)
    change = segmenter.get_parameter(f"{name}.weight") - fresh().get_parameter(f"{name}.weight")
    assert change.abs().max() > 1e-3
    assert not trainable(segmenter).keys() & {f"{name}.weight"}


def test_merge_and_unmerge_alternate(fresh: Build, trained: Attach) -> None:
    segmenter = trained(fresh(), SMALL)
    with pytest.raises(ValueError, match="but this one is not"):
        unmerge(segmenter)
    merge(segmenter)
    with pytest.raises(ValueError, match="merged already"):
        merge(segmenter)


@pytest.mark.parametrize("merged", [False, True])
def test_detach_leaves_the_frozen_model_for_the_next_adapter(
    fresh: Build, trained: Attach, images: torch.Tensor, merged: bool
) -> None:
    plain, segmenter = fresh(), trained(fresh(), replace(SMALL, encoder="all", decoder="all"))
    if merged:
        merge(segmenter)

    attachment(segmenter).detach()

    assert torch.equal(segmenter(images).logits, plain(images).logits)
    assert segmenter.state_dict().keys() == plain.state_dict().keys()
    assert trainable(segmenter) == {}
    assert torch.equal(trained(segmenter, SMALL)(images).logits, trained(plain, SMALL)(images).logits)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_bfloat16_rounds_but_does_not_change_the_answer(
    fresh: Build, trained: Attach, images: torch.Tensor, training: bool
) -> None:
    segmenter = trained(fresh(), SMALL).train(training)
    exact = segmenter(images).logits
    with torch.autocast("cpu", torch.bfloat16):
        rounded = segmenter(images).logits
    rounded.float().square().mean().backward()

    assert (rounded.float() - exact).abs().max() < 0.1 * exact.abs().max()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trainable(segmenter).values()
    )


@pytest.mark.parametrize("adapter", [SMALL, replace(SMALL, encoder="qv", decoder="all")], ids=site)
def test_permuting_images_permutes_logits(fresh: Build, trained: Attach, images: torch.Tensor, adapter: LoRA) -> None:
    segmenter = trained(fresh(), adapter)
    order = torch.tensor([1, 2, 0])
    torch.testing.assert_close(segmenter(images[order]).logits, segmenter(images).logits[order], rtol=0, atol=2e-6)


def test_the_backbone_keeps_its_names_and_values(fresh: Build, attach: Attach) -> None:
    plain = fresh().state_dict()
    adapted = attach(fresh(), replace(SMALL, encoder="all", decoder="all")).state_dict()
    assert {name for name in adapted if ".lora." not in name} == plain.keys()
    assert all(torch.equal(adapted[name], tensor) for name, tensor in plain.items())


@pytest.mark.parametrize("site_name", ["output", "input"])
def test_dropout_acts_in_training_alone_and_keeps_the_mean(fresh: Build, trained: Attach, site_name: Any) -> None:
    segmenter = trained(fresh(), replace(SMALL, dropout=0.5, dropout_site=site_name))
    layer = segmenter.get_submodule("sam.image_encoder.trunk.blocks.0.attn.qkv")
    assert isinstance(layer, LoRALinear)
    update = layer.updates()[0][1]
    x = torch.randn(1, 16, generator=torch.Generator().manual_seed(3))
    exact = update(x)
    torch.testing.assert_close(exact, x @ update.weight().T, rtol=1e-4, atol=1e-6)

    segmenter.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        dropped = update(x.expand(40_000, -1))

    torch.testing.assert_close(dropped.mean(0, keepdim=True), exact, rtol=0.0, atol=0.03)
    zeros = (dropped == 0).float().mean()
    assert zeros == pytest.approx(0.5, abs=0.01) if site_name == "output" else zeros < 0.01


@pytest.mark.parametrize("probability", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_drop_zeroes_independently_with_this_probability(probability: float) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        zero = drop(torch.ones(501, 999), probability) == 0
    error = 4 * (probability * (1 - probability) / zero.numel()) ** 0.5
    assert zero.float().mean() == pytest.approx(probability, abs=error)
    assert (zero[:, :-1] & zero[:, 1:]).float().mean() == pytest.approx(probability**2, abs=4 * error)
    assert set(drop(torch.ones(501), probability).tolist()) <= {0.0, 1.0}


def test_initial_values_have_the_stated_spread(fresh: Build, attach: Attach) -> None:
    rank = 64
    normal, kaiming = (
        attach(fresh(), LoRA(rank=rank, init=init))
        .get_parameter("sam.sam_mask_decoder.transformer.layers.0.self_attn.q_proj.lora.whole.A")
        .detach()
        for init in ("normal", "kaiming")
    )
    assert normal.std() == pytest.approx(rank**-0.5, rel=0.05)
    assert normal.mean() == pytest.approx(0, abs=0.01)
    assert kaiming.abs().max() <= 64**-0.5
    assert kaiming.std() == pytest.approx((64 * 3) ** -0.5, rel=0.05)


def test_initial_values_do_not_depend_on_the_other_targets(fresh: Build, attach: Attach) -> None:
    narrow = attach(fresh(), replace(SMALL, decoder="none", blocks=LastBlocks(count=2)))
    wide = attach(fresh(), replace(SMALL, encoder="all", decoder="all"))
    few, many = state(narrow), state(wide)
    assert few.keys() < many.keys()
    assert all(torch.equal(few[name], many[name]) for name in few)


def test_initial_values_depend_on_layer_and_seed(fresh: Build, attach: Attach) -> None:
    first = state(attach(fresh(), SMALL))
    same = state(attach(fresh(), SMALL))
    other = fresh()
    Attachment(other, (SMALL,), seed=1)
    left, right = (first[f"sam_mask_decoder.transformer.layers.{i}.self_attn.q_proj.lora.whole.A"] for i in (0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not any(torch.equal(first[name], value) for name, value in state(other).items() if name.endswith("A"))
    assert not torch.equal(left, right)


def test_state_of_one_segmenter_fits_another(
    fresh: Build, trained: Attach, attach: Attach, images: torch.Tensor
) -> None:
    source, target = trained(fresh(), SMALL), attach(fresh(), SMALL)
    tensors = state(source)
    assert sum(tensor.numel() for tensor in tensors.values()) == count((SMALL,), source.backbone)

    attachment(target).load(tensors)

    assert torch.equal(target(images).logits, source(images).logits)
    next(iter(tensors.values())).zero_()
    assert torch.equal(target(images).logits, source(images).logits)


@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape"])
def test_foreign_tensors_are_refused_and_nothing_is_loaded(fresh: Build, attach: Attach, fault: str) -> None:
    segmenter = attach(fresh(), SMALL)
    before = state(segmenter)
    tensors = {name: tensor + 1 for name, tensor in before.items()}
    name = next(iter(tensors))
    if fault == "missing":
        del tensors[name]
    else:
        tensors["other.A" if fault == "unexpected" else name] = torch.zeros(1)

    with pytest.raises(CheckpointError, match="names and shapes of what is attached"):
        attachment(segmenter).load(tensors)

    assert all(torch.equal(tensor, before[name]) for name, tensor in state(segmenter).items())


def test_no_adapter_trains_nothing(fresh: Build, images: torch.Tensor) -> None:
    segmenter = fresh()
    before = segmenter(images).logits

    attachment = Attachment(segmenter)

    assert torch.equal(segmenter(images).logits, before)
    assert (count((), Nano()), share((), Nano()), attachment.parameters, attachment.state()) == (0, 0.0, {}, {})
    attachment.load({})
    with pytest.raises(CheckpointError):
        attachment.load({"x": torch.zeros(1)})


@pytest.mark.parametrize(
    "settings",
    [
        {"encoder": "none", "decoder": "none"},
        {"rank": 0},
        {"alpha": -1.0},
        {"alpha": float("nan")},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"encoder": "qk"},
        {"rank": 4.0},
        {"bias": True},
    ],
)
def test_nonsense_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LoRA(**settings)


def test_both_none_names_the_remedy() -> None:
    with pytest.raises(ValidationError, match="leave the adapter out"):
        replace(SMALL, encoder="none", decoder="none")


@pytest.mark.parametrize("adapter", [Full(), *(replace(SMALL, blocks=blocks) for blocks in BLOCKS)])
def test_json_gives_the_adapter_back(adapter: Adapter) -> None:
    text = to_json(adapter)
    assert from_json(Adapter, text) == adapter
    assert to_json(from_json(Adapter, text)) == text


def test_the_union_names_the_choices() -> None:
    assert kinds(Adapter) == {"lora": LoRA, "full": Full}
    assert kinds(Blocks).keys() == {"all", "global", "stages", "last"}


@pytest.mark.parametrize("backbone", [Nano(), Sam2(size="tiny")])
def test_share_is_count_over_all_parameters(backbone: Backbone) -> None:
    assert share((SMALL,), backbone) * parameters(backbone) == pytest.approx(count((SMALL,), backbone))
