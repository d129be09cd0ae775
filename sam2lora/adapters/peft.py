"""The form in which peft keeps LoRA: tensors and ``adapter_config.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sam2lora.adapters.attachment import Part
from sam2lora.adapters.lora import LoRA
from sam2lora.backbones import Backbone, LinearShape


class PeftForm(NamedTuple):
    """Adapters as peft reads them. ``dropout``: a sentence on what training with it dropped."""

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    dropout: str


def peft_form(adapters: Sequence[Part], backbone: Backbone, tensors: Mapping[str, Tensor]) -> PeftForm | None:
    """What was trained, ``tensors`` by name, as peft reads it; None for adapters that are not one LoRA.

    An update of queries and values alone, which peft cannot say, becomes one of their rank together whose B is zero
    elsewhere: exactly the same update.
    """
    match adapters:
        case (LoRA() as adapter,):
            whole = {
                f"base_model.model.{target.name}.lora_{matrix}.weight": tensor
                for target in adapter.targets(backbone)
                for matrix, tensor in _whole(adapter, target, tensors).items()
            }
            return PeftForm(whole, _config(adapter, backbone), _dropout(adapter))
        case _:
            return None


def _whole(adapter: LoRA, target: LinearShape, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A (n rank, inputs) and B (outputs, n rank) of one layer: its n updates of some rows each as one of all rows."""
    rows = adapter.rows(target)
    first = [tensors[f"{target.name}.lora.{part}.A"] for part in rows]
    second = torch.zeros(target.outputs, len(rows) * adapter.rank)
    for place, (part, span) in enumerate(rows.items()):
        second[span, place * adapter.rank : (place + 1) * adapter.rank] = tensors[f"{target.name}.lora.{part}.B"]
    return {"A": torch.cat(first), "B": second}


def _config(adapter: LoRA, backbone: Backbone) -> dict[str, Any]:
    targets = adapter.targets(backbone)
    parts = {target.name: len(adapter.rows(target)) for target in targets if len(adapter.rows(target)) > 1}
    stabilised = adapter.scale == "rank_stabilised"
    # peft divides alpha by the rank, or by its root: alpha grows with the rank so that the quotient stays ours.
    grown = {name: adapter.alpha * (math.sqrt(count) if stabilised else count) for name, count in parts.items()}
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": backbone.hub_id or backbone.title,
        "target_modules": [target.name for target in targets],
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "rank_pattern": {name: count * adapter.rank for name, count in parts.items()},
        "alpha_pattern": grown,
        "use_rslora": stabilised,
        "lora_dropout": adapter.dropout if adapter.dropout_site == "input" else 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _dropout(adapter: LoRA) -> str:
    if adapter.dropout_site == "input":
        return "Dropout acts on the input of an update, in peft as in training."
    return (
        f"In training, dropout of {adapter.dropout:g} acted on the output of an update; peft drops its input. So "
        f"lora_dropout is 0 here, which changes nothing in prediction; training on with peft is another regime."
    )
