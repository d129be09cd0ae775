"""The contract of everything that can be put onto a segmenter, of every kind and at every kind of site."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from sam2lora.adapters import Adapter, Attachment, Full, LoRA, NoPackForm, PackForm, Part, Site, count
from sam2lora.adapters.attachment import Hooked
from sam2lora.backbones import Backbone, Nano, UNet
from sam2lora.choice import digest, kinds
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.models.build import build
from sam2lora.models.segmenter import Segmenter
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime
from sam2lora.training.loop import epoch
from sam2lora.training.session import start

NANO = Nano(weights="random")
BLOCK = "image_encoder.trunk.blocks.2"


class Scaled(nn.Module):
    """``x`` times 1 + ``gain``, or ``gain`` times ``x``; a gain of 0 changes nothing."""

    def __init__(self, whole: bool) -> None:
        super().__init__()
        self.whole = whole
        self.gain = nn.Parameter(torch.zeros(()))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return (self.whole + self.gain) * x


@dataclass(frozen=True)
class Hook:
    """A hook that is no LoRA."""

    where: Hooked
    name: str = BLOCK
    kind: str = "hook"

    def sites(self, backbone: Backbone) -> frozenset[Site]:
        return frozenset({Site(self.name, self.where)})

    def place(self, on: Attachment) -> None:
        on.hook(self.name, Scaled(self.where != "parallel"), self.where)

    def pack_form(self, backbone: Backbone) -> PackForm:
        return PackForm(digest(self.where, self.name))


@dataclass(frozen=True)
class Decoder:
    """Copies of the mask decoder's weights."""

    kind: str = "decoder"

    def sites(self, backbone: Backbone) -> frozenset[Site]:
        return frozenset({Site("sam_mask_decoder", "weights")})

    def place(self, on: Attachment) -> None:
        on.copy("sam_mask_decoder")

    def pack_form(self, backbone: Backbone) -> NoPackForm:
        return NoPackForm("its decoder is each trial's own")


PARTS: list[tuple[Part, ...]] = [
    *((kind(),) for kind in kinds(Adapter).values()),
    (Hook("before"),),
    (Hook("after"),),
    (Hook("parallel"),),
    (LoRA(decoder="none", rank=2), Hook("after"), Decoder()),
]
every_kind = pytest.mark.parametrize("parts", PARTS, ids=lambda parts: "-".join(type(part).__name__ for part in parts))


def everything(module: nn.Module) -> dict[str, Tensor]:
    """Each parameter and buffer by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


@pytest.fixture
def segmenter() -> Segmenter:
    return build(NANO, 64, Runtime())


def moved(attachment: Attachment) -> Attachment:
    """With other values, as after training."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in attachment.parameters.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.05)
    return attachment


@every_kind
def test_what_is_put_on_changes_nothing_at_first(segmenter: Segmenter, images: Tensor, parts: tuple[Part, ...]) -> None:
    before = segmenter(images).logits
    Attachment(segmenter, parts)
    assert torch.equal(segmenter.eval()(images).logits, before)


@every_kind
def test_exactly_what_is_declared_is_trained(segmenter: Segmenter, images: Tensor, parts: tuple[Part, ...]) -> None:
    attachment = moved(Attachment(segmenter, parts))
    segmenter.train()(images).logits.square().mean().backward()
    with_gradient = {name for name, tensor in segmenter.body.named_parameters() if tensor.grad is not None}
    assert with_gradient <= attachment.parameters.keys()
    idle = attachment.parameters.keys() - with_gradient
    assert all(name.startswith(("sam_prompt_encoder.", "sam_mask_decoder.iou_pred")) for name in idle)
    assert {name for name, tensor in segmenter.body.named_parameters() if tensor.requires_grad} == set(
        attachment.parameters
    )


@every_kind
def test_it_is_placed_where_it_says(segmenter: Segmenter, parts: tuple[Part, ...]) -> None:
    for part in parts:
        network = {id(module): name for name, module in segmenter.body.named_modules()}
        attachment = Attachment(segmenter, (part,))
        sites = part.sites(NANO)
        changed = {name for name, module in segmenter.body.named_modules() if network.get(id(module)) != name}
        taken = [site.name for site in sites if site.where == "module"]
        hooks = [f"{site.name.replace('.', '/')}:{site.where}" for site in sites]
        assert all(any(f"{name}.".startswith(f"{inside}.") for inside in (*taken, *hooks)) for name in changed)
        assert attachment.parameters
        attachment.detach()


@every_kind
def test_the_count_is_that_of_what_is_trained(segmenter: Segmenter, parts: tuple[Part, ...]) -> None:
    trained = Attachment(segmenter, parts).parameters.values()
    assert count(parts, NANO) == sum(parameter.numel() for parameter in trained)


@every_kind
def test_a_detached_segmenter_is_bit_for_bit_what_it_was(
    segmenter: Segmenter, images: Tensor, parts: tuple[Part, ...]
) -> None:
    before, logits = everything(segmenter), segmenter(images).logits
    values = {name: tensor.clone() for name, tensor in before.items()}
    attachment = moved(Attachment(segmenter, parts))
    segmenter.train()(images).logits.square().mean().backward()

    attachment.detach()

    after = everything(segmenter)
    assert list(after) == list(before)
    assert all(after[name] is tensor for name, tensor in before.items())
    assert all(torch.equal(after[name], tensor) for name, tensor in values.items())
    assert torch.equal(segmenter.eval()(images).logits, logits)


@every_kind
def test_a_state_is_taken_by_another_of_its_kind(segmenter: Segmenter, images: Tensor, parts: tuple[Part, ...]) -> None:
    state = moved(Attachment(segmenter, parts)).state()
    trained = segmenter.eval()(images).logits
    other = build(NANO, 64, Runtime())
    frozen = other(images).logits
    Attachment(other, parts).load(state)
    assert torch.equal(other(images).logits, trained)
    assert not torch.equal(trained, frozen)


@pytest.mark.parametrize("first", PARTS, ids=lambda parts: "-".join(type(part).__name__ for part in parts))
def test_attachments_take_turns_on_one_segmenter(segmenter: Segmenter, images: Tensor, first: tuple[Part, ...]) -> None:
    one = moved(Attachment(segmenter, first))
    alone = segmenter.eval()(images).logits
    two = moved(Attachment(segmenter, (LoRA(rank=1, alpha=2.0),)))
    assert not torch.equal(segmenter.eval()(images).logits, alone)
    one.attach()
    assert torch.equal(segmenter.eval()(images).logits, alone)
    assert two.parameters.keys().isdisjoint(dict(segmenter.body.named_parameters()).keys() - one.parameters.keys())


def test_a_place_that_does_not_exist_is_refused(segmenter: Segmenter) -> None:
    with pytest.raises(ValueError, match=r"nano has none at 'image_encoder\.trunk\.blocks\.99'"):
        Attachment(segmenter, (Hook("after", "image_encoder.trunk.blocks.99"),))


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (Site("a.b"), Site("a.b"), True),
        (Site("a"), Site("a.b"), True),
        (Site("a"), Site("a.b", "after"), True),
        (Site("a", "after"), Site("a.b"), False),
        (Site("a", "after"), Site("a", "after"), True),
        (Site("a", "after"), Site("a", "before"), False),
        (Site("", "weights"), Site("a.b"), True),
        (Site("", "weights"), Site("a.b", "after"), False),
        (Site("a", "weights"), Site("ab", "weights"), False),
        (Site("a.b", "weights"), Site("a", "weights"), True),
    ],
)
def test_sites_overlap_where_one_holds_the_other(one: Site, other: Site, both: bool) -> None:
    assert one.overlaps(other) is other.overlaps(one) is both


CONFIG = TrialConfig(
    protocol=Transfer(sources=(Synthetic(hospital="alder", images=14, size=64),)),
    backbone=NANO,
    adapters=(LoRA(rank=2, alpha=4.0),),
    image_size=64,
    epochs=1,
)
OTHERS = {"lora": CONFIG.adapters, "full": (Full(),), "frozen": ()}


@pytest.mark.parametrize("order", [("lora", "full"), ("full", "lora"), ("frozen", "lora")], ids="-".join)
def test_trials_of_other_kinds_in_one_process_do_not_see_each_other(
    order: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each trains as it does with a segmenter that no other trial has had: runtimes of other caches share none."""

    def trained(names: tuple[str, ...], runtime: Runtime) -> list[tuple[float, dict[str, Tensor]]]:
        sessions = [start(replace(CONFIG, adapters=OTHERS[name]), Replicate(), runtime) for name in names]
        return [(epoch(session)["loss/total"], session.attachment.state()) for session in sessions]

    together = trained(order, Runtime(cache=tmp_path_factory.mktemp("together")))
    for name, (loss, state) in zip(order, together, strict=True):
        ((expected, tensors),) = trained((name,), Runtime(cache=tmp_path_factory.mktemp(name)))
        assert loss == expected
        assert all(torch.equal(tensor, tensors[part]) for part, tensor in state.items())


def test_overlapping_adapters_are_refused_by_name() -> None:
    with pytest.raises(ValidationError, match=r"adapters\.0 \(lora\) and adapters\.1 \(full\) both take"):
        replace(CONFIG, adapters=(LoRA(), Full()))
    beside = (LoRA(decoder="none"), LoRA(encoder="none"))
    assert replace(CONFIG, adapters=beside).adapters == beside


def test_all_conflicts_are_reported_at_once() -> None:
    with pytest.raises(ValidationError) as refused:
        replace(CONFIG, backbone=UNet(), prompt_dropout=0.5)
    said = str(refused.value)
    assert all(
        words in said for words in ("prompt_dropout takes prompts away", "but the backbone is a U-Net", "trained whole")
    )
