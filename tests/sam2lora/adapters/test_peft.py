"""peft computes the same updates and the same gradients."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import peft
import pytest
import torch

from sam2lora.adapters import LoRA
from sam2lora.models.segmenter import Segmenter

Build = Callable[[], Segmenter]
Attach = Callable[[Segmenter, LoRA], Segmenter]

SMALL = LoRA(rank=4, alpha=8.0, dropout=0.0)
VARIANTS = [
    SMALL,
    replace(SMALL, scale="rank_stabilised", alpha=3.0),
    replace(SMALL, encoder="all", decoder="all"),
    replace(SMALL, encoder="none"),
    replace(SMALL, encoder="mlp", decoder="none"),
]


@pytest.mark.parametrize("adapter", VARIANTS)
def test_output_and_gradients_agree(fresh: Build, trained: Attach, images: torch.Tensor, adapter: LoRA) -> None:
    ours = trained(fresh(), adapter)
    theirs = _with_peft(fresh(), adapter, ours.body.attachment.state())
    copied = {name: parameter for name, parameter in theirs.named_parameters() if parameter.requires_grad}

    logits, expected = ours(images).logits, theirs(images).logits
    for each in (logits, expected):
        each.sigmoid().sum().backward()

    assert (logits - expected).abs().max() <= 1e-5
    assert len(copied) == 2 * len(adapter.targets(ours.backbone))
    for name, parameter in copied.items():
        own = ours.get_parameter(_our_name(name))
        torch.testing.assert_close(own.grad, parameter.grad, rtol=1e-3, atol=1e-5 * float(parameter.grad.abs().max()))


def _with_peft(segmenter: Segmenter, adapter: LoRA, tensors: dict[str, torch.Tensor]) -> Any:
    config = peft.LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]  # annotated as int, used as a float
        use_rslora=adapter.scale == "rank_stabilised",
        lora_dropout=0.0,
        target_modules=[f"sam.{target.name}" for target in adapter.targets(segmenter.backbone)],
    )
    wrapped: Any = peft.get_peft_model(segmenter, config)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(tensors[_our_name(name).removeprefix("sam.")])
    return wrapped


def _our_name(name: str) -> str:
    """``base_model.model.X.lora_A.default.weight`` -> ``X.lora.whole.A``."""
    layer, matrix = name.removeprefix("base_model.model.").removesuffix(".default.weight").rsplit(".lora_", 1)
    return f"{layer}.lora.whole.{matrix}"
